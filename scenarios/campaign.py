"""Many runs of one scenario in one world, judged.

Each seed has its plan, drawn from it or given, which is written down before its run begins. A run in which the harness
itself fails ends the campaign; what was found before is kept.
"""

import asyncio
import contextlib
import dataclasses
import os
import platform
import random
import shlex
import shutil
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Protocol

import msgspec

from duress.faults import planfile
from duress.faults.bounds import Place
from duress.faults.generate import generate
from duress.faults.plan import Plan, kind
from duress.faults.worlds import NETWORK_KINDS, as_possible, can
from duress.scenarios import evidencefile, measure, rpo, verdict
from duress.scenarios.build import digest
from duress.scenarios.conclusion import conclude
from duress.scenarios.observed import Diverged, Happening, RunFailed, Simulated
from duress.scenarios.result import Campaign, Divergence, HarnessFailure, Run, Violation
from duress.scenarios.settings import bounds_of
from duress.scenarios.shards import Shard
from duress.scenarios.spans import spans
from duress.scenarios.spec import Scenario
from duress.scenarios.story import story
from duress.scenarios.stream import Stream
from duress.scenarios.work import Ground, Work, open_ground

RUNS_WITH_SPANS = 3  # of those that pass; the others always have them
STORIES = 3  # violations of one run that are told at length


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run."""

    work: Work
    seeds: Sequence[int]
    plan: Plan | None  # for every seed; None: drawn
    kinds: Mapping[str, float]  # kinds of faults to draw from → weight; none: runs without faults
    places: Sequence[Place]  # engine points to aim them at
    out: Path
    jobs: int = 1
    cluster: str | None = None  # the address of a Dask scheduler whose workers simulate; None: this machine
    asked: Sequence[str] | None = None  # the kinds that were asked for by name; None: the usual ones
    traced: Callable[[int, Sequence[Happening]], None] | None = None  # gets seed and entries of runs that keep them
    repeat: Sequence[str] = ()  # further words of the command that repeats a run
    shrink: float = 0.0  # seconds for making failing runs smaller, when all have ended; 0: they stay as they are
    corpus: Path | None = None  # where failing runs are kept, and replayed from before the others; None: they are not
    shard: Shard | None = None  # the part of a whole that `seeds` are
    command: Sequence[str] = ()  # the words after `duress` that run all of it again

    @property
    def scenario(self) -> Scenario:
        return self.work.scenario


class Watcher(Protocol):
    """Hears how a campaign goes."""

    def began(self, seed: int) -> None: ...
    def ended(self, run: Run) -> None: ...


@dataclass(slots=True)
class Outcome:
    """A campaign, and the failures of the harness itself: (seed, traceback)."""

    campaign: Campaign
    failures: list[tuple[int, str]] = field(default_factory=list)


async def run_campaign(order: Order, watcher: Watcher, going: Callable[[], bool] = lambda: True) -> Outcome:
    """Run every seed, as long as it is `going`; runs that have begun are finished. Each is in the folder's stream when it has.

    Raises what makes all of it impossible: ServerError, DatabaseUnusable.
    """
    started_at, began = time.time(), time.monotonic()
    waiting = iter(order.seeds)
    runs: dict[int, Run] = {}
    failures: list[tuple[int, str]] = []
    divergences: list[Divergence] = []
    heads: list[Campaign] = []
    shown = frozenset(order.seeds[:RUNS_WITH_SPANS])  # whoever runs them, and whichever end first
    stream = Stream(order.out)

    async def lane(number: int) -> None:
        async with open_ground(order.work, number) as ground:
            if not heads:
                heads.append(_head(order, started_at, ground.postgres))
                stream.begin(heads[0])
            while going() and not failures and (seed := next(waiting, None)) is not None:
                watcher.began(seed)
                try:
                    runs[seed] = await one_run(order, ground, seed, with_spans=seed in shown)
                except Diverged as error:
                    again = reproduce(order, seed, token_of(order, seed, ground))
                    divergences.append(msgspec.structs.replace(error.divergence, reproduce=again))
                    continue
                except Exception as error:  # noqa: BLE001  # whatever it was, what the other runs found is kept
                    if isinstance(error, RunFailed) and order.traced is not None:
                        order.traced(seed, error.trace)
                    again = f"reproduce with: {reproduce(order, seed, token_of(order, seed, ground))}"
                    failures.append((seed, f"{again}\n{traceback.format_exc()}"))
                    break
                stream.add(runs[seed])
                watcher.ended(runs[seed])
            lost = await ground.lost_in_transaction()
            for seed in lost.keys() & runs.keys():
                runs[seed] = msgspec.structs.replace(runs[seed], lost_in_transaction=lost[seed])

    with contextlib.closing(stream):
        await _side_by_side(lane, min(order.jobs, len(order.seeds)))
    campaign = msgspec.structs.replace(
        heads[0] if heads else _head(order, started_at, ""),
        seconds=time.monotonic() - began,
        failures=tuple(HarnessFailure(seed=seed, message=text.strip().splitlines()[-1]) for seed, text in failures),
        divergences=tuple(sorted(divergences, key=lambda one: one.seed)),
    )
    return Outcome(conclude(campaign, [runs[seed] for seed in order.seeds if seed in runs]), failures)


def _head(order: Order, started_at: float, postgres: str) -> Campaign:
    """What is known before the first run."""
    from duress.scenarios.invariants import titles

    return Campaign(
        scenario=order.work.reference,
        world=order.work.world,
        canary=order.work.canary,
        workers=order.work.settings.workers,
        started_at=started_at,
        seconds=0.0,
        duress=_version(),
        build=digest(order.scenario),
        python=platform.python_version(),
        postgres=postgres,
        machine=f"{os.cpu_count()} cores, {platform.system()} {platform.release()} {platform.machine()}",
        settings=_settings(order),
        verdict="inconclusive",
        invariants=titles(order.scenario.invariants),
        rare=order.scenario.sometimes,
        allowed=tuple(
            kind for kind in sorted(order.scenario.faults) if can(kind, order.work.world, order.work.network)
        ),
        not_covered=_not_covered(order),
        wanted=len(order.seeds),
        command=tuple(order.command),
        shards=() if order.shard is None else (str(order.shard),),
    )


async def one_run(order: Order, ground: Ground, seed: int, *, with_spans: bool) -> Run:
    """Run one seed, judge it, and write down what is needed to repeat and to understand it."""
    from duress.scenarios.invariants import judge
    from duress.scenarios.recovery import recoveries

    plan = order.plan if order.plan is not None else draw(order, seed)
    plan_file = _plan_file(order, seed)
    planfile.save(plan, plan_file)
    observed = await ground.observe(seed, plan)
    evidence = observed.evidence
    findings = await asyncio.to_thread(judge, evidence, order.scenario.invariants)
    simulated = observed.simulated
    if simulated is not None and order.traced is not None:
        order.traced(seed, simulated.trace)
    token = token_of(order, seed, ground, simulated)
    repeat = reproduce(order, seed, token)
    violations = tuple(
        Violation(
            invariant=finding.invariant,
            title=finding.title,
            seed=seed,
            message=finding.message,
            reproduce=repeat,
            story=story(evidence.history, finding.workflow) if number < STORIES else (),
        )
        for number, finding in enumerate(findings)
    )
    doubts = verdict.doubts_of(observed)
    decided = verdict.of_run(bool(violations), doubts)
    told_whole = with_spans or decided != "pass"
    history_file = order.out / f"seed-{seed}.history.jsonl"
    if decided != "pass":
        evidencefile.save(evidence, history_file)
        await ground.save_messages(order.work.logs / f"seed-{seed}")
    else:
        shutil.rmtree(order.work.logs / f"seed-{seed}", ignore_errors=True)  # they are about what went wrong
    ambiguous = measure.ambiguous_commits(evidence)
    return Run(
        seed=seed,
        verdict=decided,
        reasons=doubts,
        seconds=observed.seconds,
        workflows=len(evidence.final.workflows),
        checkpoints=len(evidence.final.checkpoints),
        bodies_rerun=measure.bodies_rerun(evidence),
        attempts_without_checkpoint=measure.attempts_without_checkpoint(evidence),
        ambiguous_commits=ambiguous.commits,
        ambiguous_present=ambiguous.present,
        ambiguous_absent=ambiguous.absent,
        acknowledged_lost=rpo.lost(evidence).count if evidence.survived else 0,
        stalls=measure.stalls(evidence),
        faults=tuple(
            msgspec.structs.replace(record, recovery=recovery)
            for record, recovery in zip(observed.faults, recoveries(evidence, len(observed.faults)), strict=True)
        ),
        violations=violations,
        sometimes=measure.sometimes(evidence),
        progress=measure.progress(evidence),
        spans=spans(evidence) if told_whole else (),
        latencies=measure.latencies(evidence) if told_whole else (),
        plan=plan_file.name,
        history=history_file.name if decided != "pass" else None,
        reproduce=repeat,
        token=token,
        hash=None if simulated is None else simulated.hash,
        twice=simulated is not None and simulated.twice,
    )


def draw(order: Order, seed: int) -> Plan:
    """The plan of a seed: the same for the same seed, kinds and workers."""
    if not any(order.kinds.values()):
        return Plan()
    bounds = bounds_of(order.work.settings, order.kinds, order.places)
    plan = generate(random.Random(f"plan {seed}"), bounds)
    return as_possible(plan, order.work.world, order.work.network)


def token_of(order: Order, seed: int, ground: Ground, simulated: Simulated | None = None) -> str | None:
    """The word that names a simulated run, with what was `simulated` if it came to its end."""
    if order.work.world != "sim":
        return None
    from duress.scenarios.sim import reproduction

    return reproduction.token_of(order, seed, ground.postgres, simulated)


def reproduce(order: Order, seed: int, token: str | None) -> str:
    """The one line that repeats a run."""
    if token is not None:
        return shlex.join(["duress", "replay", token])
    words = ["duress", "run", order.work.reference, "--world", order.work.world, "--seed", str(seed)]
    words += ["--workers", str(order.work.settings.workers)]
    if order.work.canary is not None:
        words += ["--canary", order.work.canary]
    return shlex.join([*words, *order.repeat, "--plan", os.path.relpath(_plan_file(order, seed))])


def _plan_file(order: Order, seed: int) -> Path:
    return order.out / f"seed-{seed}.plan.json"


async def _side_by_side(lane: Callable[[int], Coroutine[None, None, None]], count: int) -> None:
    """Run so many lanes; the first failure ends all, and none is left."""
    lanes = [asyncio.create_task(lane(number)) for number in range(count)]
    try:
        await asyncio.gather(*lanes)
    finally:
        for one in lanes:
            one.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


def _version() -> str:
    try:
        return metadata.version("duress")
    except metadata.PackageNotFoundError:
        return "not installed"


def _settings(order: Order) -> dict[str, str | int | float | bool | None]:
    """What a reader must know to compare two campaigns."""
    chosen = {f"option {name}": value for name, value in sorted(order.work.options.items())}
    weights = {f"weight of {kind}": weight for kind, weight in sorted(order.kinds.items())}
    sim = order.work.world == "sim"
    of_world = {"scheduler": order.work.simulating.scheduler} if sim else {"network": order.work.network}
    settings = dataclasses.asdict(order.work.settings)
    only = settings.pop("only")
    part = {} if only is None else {"only": ", ".join(map(str, only))}
    return {**settings, **part, **of_world, "jobs": order.jobs, **chosen, **weights}


def _kinds_of(order: Order) -> set[str]:
    """Those that can happen in this campaign."""
    return set(order.kinds) if order.plan is None else {kind(event.fault) for event in order.plan.events}


def _not_covered(order: Order) -> tuple[str, ...]:
    """What a reader might think was tested, and no run of this campaign can test."""
    cannot = [kind for kind in sorted(order.scenario.faults) if not can(kind, order.work.world, order.work.network)]
    missing = []
    if cannot:
        missing.append(f"faults that the scenario allows and {order.work.world} cannot do: {', '.join(cannot)}")
    if order.work.dsn is None:
        missing.append("loss of power: the server runs with fsync off, in memory where possible")
    if order.work.world == "sim":
        missing.append("real processes and sockets: workers, links and time are simulated; PostgreSQL is real")
        missing.append("clocks: PostgreSQL's jumps only in plans that are written by hand")
    elif "clock-skew" not in _kinds_of(order):
        missing.append("clocks: all workers share the clock of one machine")
    if not NETWORK_KINDS & _kinds_of(order):
        missing.append("networks: nothing between the workers and PostgreSQL was delayed, cut or partitioned")
    return tuple(missing)
