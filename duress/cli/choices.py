"""What the options of `duress run` mean, checked before anything is started. All raise click.UsageError."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from duress.engine import observer
from duress.faults import planfile
from duress.faults.bounds import USUAL_PLACES, Place
from duress.faults.plan import KINDS, Plan, PlanError
from duress.faults.worlds import NetworkName, World, drawable, objection, refuse
from duress.scenarios.canaries import Canary, canaries
from duress.scenarios.mutants import MUTANTS, Mutant
from duress.scenarios.settings import USUAL, Settings
from duress.scenarios.shards import Shard
from duress.scenarios.spec import Scenario

POINTS = frozenset(
    value
    for name, value in vars(observer).items()
    if name.isupper() and isinstance(value, str) and "client." not in value
)


def parse_faults(value: object) -> str:
    """Kinds separated by commas; a list in pyproject.toml."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def parse_shard(value: str | Shard) -> Shard:
    """From "2/3"."""
    return value if isinstance(value, Shard) else Shard.parse(value)


def chosen_seeds(count: int, one: int | None, drawn_from: str | None, shard: Shard | None) -> Sequence[int]:
    """Seeds 1 to `count`, or as many that a text decides (the same for the same text), or one; of these the shard's."""
    if one is not None:
        if shard is not None or drawn_from is not None:
            raise click.UsageError("--seed is one run; it goes neither with --shard nor with --seeds-from")
        return [one]
    first = 1
    if drawn_from is not None:
        if not drawn_from.strip():
            raise click.UsageError("--seeds-from is empty; give the text that decides the seeds, like a commit's hash")
        # Far above the seeds that people choose, and exact in every JSON reader.
        first = int.from_bytes(hashlib.sha256(drawn_from.strip().encode()).digest()[:4]) * 1000 + 1
    seeds = range(first, first + count)
    return seeds if shard is None else shard.of_seeds(seeds)


def chosen_world(asked: World | None, dsn: str | None) -> World:
    """The world that was asked for. Else simulated, unless that cannot be here, of which a line on stderr tells, or a server
    of the user's own is to be used, which only real processes can.
    """
    if asked is not None:
        return asked
    if dsn is not None:
        return "procs"
    from duress.simulator.server import SimUnavailable
    from duress.simulator.server.library import library_path

    try:
        library_path()
    except SimUnavailable as error:
        click.echo(f"{error}\nRunning in real processes instead (--world procs).", err=True)
        return "procs"
    return "sim"


def chosen_plan(
    path: Path | None, workers: int, world: World, network: NetworkName = "proxy", *, own_server: bool
) -> Plan | None:
    """The plan in a file; the error names the file, the field, and what would be right."""
    if path is None:
        return None
    try:
        plan = planfile.load(path, workers=workers, points=POINTS)
        refuse(plan, world, network, own_server=own_server)
    except PlanError as error:
        raise click.UsageError(str(error)) from error
    return plan


def chosen_kinds(
    scenario: Scenario,
    canary: Canary | Mutant | None,
    wanted: str | None,
    world: World,
    network: NetworkName = "proxy",
    *,
    own_server: bool,
) -> Mapping[str, float]:
    """Kind → weight. What the world cannot do, or would harm a user's own server, is refused if it was asked for, else left
    out.
    """
    allowed = dict(scenario.faults)
    if wanted is None:
        drawn = canary.faults if canary is not None and canary.faults else allowed
        return {kind: drawn[kind] for kind in drawable(drawn, world, network, own_server=own_server)}
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if names == ["none"]:
        return {}
    if names == ["all"]:
        return {kind: allowed[kind] for kind in drawable(allowed, world, network, own_server=own_server)}
    for name in names:
        if name not in KINDS:
            raise click.UsageError(
                f"--faults: {name!r} is no kind of fault{_hint(name, KINDS)}. There is: {', '.join(KINDS)}, all, none."
            )
        if name not in allowed:
            raise click.UsageError(
                f"--faults: scenario {scenario.name} does not allow {name}; it allows {', '.join(allowed)}."
            )
        why = objection(name, world, network, own_server=own_server)
        if why is not None:
            raise click.UsageError(f"--faults: {why}")
    if not names:
        raise click.UsageError("--faults is empty; name kinds separated by commas, or none")
    return {name: allowed[name] for name in names}


def chosen_places(scenario: Scenario, canary: Canary | Mutant | None) -> Sequence[Place]:
    """Where faults are aimed at: the usual places and the scenario's, unless the canary says where it shows."""
    if canary is not None and canary.places:
        return canary.places
    return (*USUAL_PLACES, *scenario.places)


def chosen_settings(world: World, workers: int | None, max_time: float) -> Settings:
    """How a run is sized and paced in this world."""
    usual = USUAL[world]
    return replace(usual, workers=usual.workers if workers is None else workers, max_time=max_time)


def chosen_options(scenario: Scenario, sizes: Sequence[str], world: World) -> Mapping[str, int]:
    """The scenario's sizes in this world with those of `--set NAME=N`."""
    options = {**scenario.options, **(scenario.simulated if world == "sim" else {})}
    for size in sizes:
        name, _, value = size.partition("=")
        if name not in options:
            known = ", ".join(f"{key}={default}" for key, default in options.items()) or "no sizes"
            raise click.UsageError(f"--set {size}: scenario {scenario.name} has {known}")
        if not value.isdecimal() or int(value) < 1:
            raise click.UsageError(f"--set {size}: {name} must be a whole number from 1")
        options[name] = int(value)
    return options


def chosen_canary(reference: str, name: str | None) -> Canary | Mutant | None:
    """A canary of the scenario, or a mutant of the engine, which any scenario may find."""
    if name is None or name in MUTANTS:
        return None if name is None else MUTANTS[name]
    known = canaries(reference)
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise click.UsageError(f"--canary: {reference} has no canary {name!r}{_hint(name, known)}. There is: {listed}")
    return known[name]


def _hint(name: str, known: object) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)  # type: ignore[call-overload]
    return f"; did you mean {close[0]!r}?" if close else ""
