"""`duress sweep`: a fault at every place of a run."""

import asyncio
import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from duress.cli import codes
from duress.cli.choices import chosen_canary, chosen_options, chosen_settings
from duress.cli.folders import new_folder
from duress.cli.live import Progress
from duress.faults.plan import describe
from duress.faults.postgres import ServerError
from duress.scenarios import coverage, registry
from duress.scenarios.campaign import Order
from duress.scenarios.coverage import WHERE, Row, Swept, Target, Where
from duress.scenarios.result import Verdict
from duress.scenarios.settings import Simulating
from duress.scenarios.sweep import LOOKED_AT, BaseFailed, Head, Results, base_run, pairs, sweep
from duress.scenarios.work import Work

SHOWN = 10  # failures; --json has them all
TITLES: Mapping[Where, str] = {
    "point": "at engine points",
    "before": "before statements",
    "inside": "inside statements",
    "after": "after statements",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The options of one call."""

    seed: int | None
    workers: int | None
    jobs: int
    places: str
    pairs: bool
    time: float | None
    most: int | None
    canary: str | None
    sizes: tuple[str, ...]
    out: Path | None


@click.command("sweep")
@click.argument("scenario")
@click.option(
    "--seed", type=click.IntRange(min=0), help="Sweep this run.  [default: of the first twelve one that shows most]"
)
@click.option("--workers", type=click.IntRange(1, 64), help="Workers.  [default: 3]")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Runs at a time.")
@click.option(
    "--places",
    default=",".join(WHERE),
    show_default=True,
    help="Strike at engine points, before, inside and after statements.",
)
@click.option("--pairs", is_flag=True, help="Then strike twice: pairs of places, drawn; needs --time or --most.")
@click.option("--time", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds.")
@click.option("--most", type=click.IntRange(min=0), help="Stop after so many runs.")
@click.option("--canary", help="Break the engine or the workload on purpose; see duress list.")
@click.option("--set", "sizes", multiple=True, metavar="NAME=N", help="Set a size of the scenario, like transfers=5.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for results; a sweep that is in it is gone on with.  [default: .duress/TIME-SCENARIO]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(scenario: str, as_json: bool, **options: object) -> int:
    """Run SCENARIO without faults in the simulated world; then once for every engine point, every statement and every point
    inside the statements of that run, under each fault that can strike there.

    Exit code: 0 pass, 1 an invariant was violated, 2 usage, 3 the harness failed, 4 something is unexplained or was left out,
    130 interrupted.
    """
    flags = Flags(**options)  # type: ignore[arg-type]
    if flags.pairs and flags.time is None and flags.most is None:
        raise click.UsageError("--pairs goes on for ever: say for how long with --time SECONDS or --most RUNS")
    places = _places(flags.places)
    order = _order(scenario, flags)
    try:
        return asyncio.run(_sweep(order, flags, places, as_json))
    except (ServerError, BaseFailed) as error:
        raise click.UsageError(str(error)) from error


def _places(text: str) -> list[Where]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or (unknown := [name for name in names if name not in WHERE]):
        wrong = repr(unknown[0]) if names else "nothing"
        raise click.UsageError(f"--places names {wrong}; there is {', '.join(WHERE)}")
    return [where for where in WHERE if where in names]


def _order(reference: str, flags: Flags) -> Order:
    try:
        scenario = registry.find(reference)
    except registry.UnknownScenario as error:
        raise click.UsageError(str(error)) from error
    chosen_canary(reference, flags.canary)
    settings = dataclasses.replace(chosen_settings("sim", flags.workers, 20.0), until="wanted")
    out = new_folder(flags.out, reference)
    work = Work(
        scenario=scenario,
        reference=reference,
        world="sim",
        options=chosen_options(scenario, flags.sizes, "sim"),
        settings=settings,
        canary=flags.canary,
        dsn=None,
        logs=out / "logs",
        simulating=Simulating(twice_every=0),
    )
    return Order(work=work, seeds=(), plan=None, kinds={}, places=(), out=out, jobs=flags.jobs)


async def _sweep(order: Order, flags: Flags, places: Sequence[Where], as_json: bool) -> int:
    began = time.monotonic()
    until = began + flags.time if flags.time is not None else math.inf
    seeds = range(1, LOOKED_AT + 1) if flags.seed is None else [flags.seed]
    seed, base = await base_run(order, seeds)
    assert base.simulated is not None
    faults = coverage.faults(order.work.settings.lease)
    wanted = coverage.targets(base, {where: faults[where] for where in places})
    head = Head(seed=seed, hash=base.simulated.hash, code=base.simulated.code)
    results = Results(order.out / "sweep.jsonl", head)
    with Progress(order.work.reference, len(wanted), quiet=as_json) as progress:
        await sweep(order, seed, ((one,) for one in wanted), results, progress.swept, until=until, most=flags.most)
        if flags.pairs:
            drawn: Iterator[tuple[Target, ...]] = itertools.chain(pairs(wanted, seed))
            await sweep(order, seed, drawn, results, progress.swept, until=until, most=flags.most)
    found = _found(order, seed, wanted, results.all, time.monotonic() - began)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    else:
        _show(found)
    return codes.OF_VERDICT[found.verdict]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A run that did not pass, in words, and how to see it again."""

    faults: tuple[str, ...]
    at: tuple[str, ...]
    broken: tuple[str, ...]
    message: str
    reproduce: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints. `points` are places, whatever strikes there; `complete`: every single fault was tried."""

    verdict: Verdict
    scenario: str
    canary: str | None
    seed: int
    seconds: float
    points: dict[str, int]
    runs: int
    pairs: int
    pairs_led_away: int
    unexplained: int
    complete: bool
    coverage: list[Row]
    failures: list[Failure]


def _found(order: Order, seed: int, wanted: Sequence[Target], results: Sequence[Swept], seconds: float) -> Found:
    asked = {(one,) for one in wanted}
    singles = [one for one in results if one.targets in asked]
    both = [one for one in results if len(one.targets) > 1]
    unexplained = sum(one.verdict == "unexplained" for one in (*singles, *both))
    complete = bool(asked) and {one.targets for one in singles} == asked
    failed = any(one.verdict == "fail" for one in (*singles, *both))
    return Found(
        verdict="fail" if failed else "pass" if complete and not unexplained else "inconclusive",
        scenario=order.work.reference,
        canary=order.work.canary,
        seed=seed,
        seconds=round(seconds, 1),
        points={"reached": len({one.place for one in wanted}), "hit": coverage.places_hit(singles)},
        runs=len(singles) + len(both),
        pairs=len(both),
        pairs_led_away=sum(one.led_away for one in both),
        unexplained=unexplained,
        complete=complete,
        coverage=coverage.table(wanted, singles),
        failures=[_failure(one) for one in (*singles, *both) if one.verdict != "pass"],
    )


def _failure(one: Swept) -> Failure:
    return Failure(
        faults=tuple(describe(target.event) for target in one.targets),
        at=tuple(target.text for target in one.targets),
        broken=one.broken,
        message=one.message or "; ".join(one.why),
        reproduce=f"duress replay {one.token}",
    )


def _show(found: Found) -> None:
    click.echo(f"{found.verdict}: {found.scenario}, seed {found.seed}, {found.runs} runs in {found.seconds:.0f} s")
    reached, hit = found.points["reached"], found.points["hit"]
    whole = "complete for one fault in this run" if found.complete else "not complete: there was not the time for all"
    click.echo(f"{hit} of {reached} places hit; {whole}; {found.unexplained} unexplained")
    if found.pairs:
        click.echo(
            f"{found.pairs} pairs of faults; in {found.pairs_led_away} the first led away from the place of the second"
        )
    click.echo()
    columns = ("where", "fault", "reached", "hit", "pass", "fail", "unexplained")
    click.echo(_line(columns))
    for row in found.coverage:
        counts = (row.reached, row.hit, row.passed, row.failed, row.unexplained)
        click.echo(_line((TITLES[row.where], row.fault, *map(str, counts))))
    for one in found.failures[:SHOWN]:
        what = " and ".join(one.faults)
        click.echo(
            f"\n{' '.join(one.broken) or 'unexplained'}: {what} ({'; '.join(one.at)})\n  {one.message}\n  {one.reproduce}"
        )
    if len(found.failures) > SHOWN:
        click.echo(f"\n… and {len(found.failures) - SHOWN} more; --json has them all")


def _line(cells: Sequence[str]) -> str:
    first, second, *numbers = cells
    return f"{first:<18} {second:<18}" + "".join(f"{number:>12}" for number in numbers)
