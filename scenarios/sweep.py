"""A sweep: one run for every place that a fault-free run passes, under every fault that can strike there.

All runs have the seed of the fault-free one, so each is the same as that until its fault strikes; what is complete is
complete for one fault in that run. Pairs of faults are drawn in an order that the seed decides, for as long as there is
time, and go on where they stopped.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from duress.faults.plan import Plan
from duress.scenarios import measure, rare, verdict
from duress.scenarios.campaign import Order
from duress.scenarios.coverage import Swept, Target
from duress.scenarios.invariants import judge
from duress.scenarios.observed import Observed, RunFailed
from duress.scenarios.sim.ground import SimGround, open_sim_ground
from duress.scenarios.sim.reproduction import token_of

LOOKED_AT = 12  # seeds, of which the one is taken whose run shows most


class BaseFailed(Exception):
    """There is no fault-free run to start from; the message says why."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of results is about."""

    seed: int
    hash: str
    code: str


async def base_run(order: Order, seeds: Sequence[int]) -> tuple[int, Observed]:
    """Of the fault-free runs of these seeds the one that shows most of what the scenario's own code names, and of several the
    shortest. Raises BaseFailed if it breaks an invariant or is not the same a second time.
    """
    own = {one.what for one in order.scenario.sometimes} - {one.what for one in rare.ENGINE}
    traced = dataclasses.replace(order.work, simulating=dataclasses.replace(order.work.simulating, trace=True))
    async with open_sim_ground(traced, 0) as ground:
        runs = [(seed, await ground.observe(seed, Plan())) for seed in seeds]
        seed, observed = max(runs, key=lambda run: (_shown(run[1], own), -_length(run[1]), -run[0]))
        again = await ground.observe(seed, Plan())
    assert observed.simulated is not None and again.simulated is not None
    if observed.simulated.hash != again.simulated.hash:
        raise BaseFailed(
            f"seed {seed} without faults is not the same run twice, so nothing can be struck at a place of it"
        )
    problems = [finding.message for finding in judge(observed.evidence, order.scenario.invariants)]
    if problems := problems or list(verdict.doubts_of(observed)):
        raise BaseFailed(f"seed {seed} without faults does not pass: {problems[0]}")
    return seed, observed


def _shown(observed: Observed, own: Collection[str]) -> int:
    return sum(what in own for what in measure.sometimes(observed.evidence))


def _length(observed: Observed) -> int:
    return 0 if observed.simulated is None else len(observed.simulated.exchanges)


class Results:
    """What is known, in a file of JSON lines: the head, then one line for each run."""

    def __init__(self, path: Path, head: Head) -> None:
        """Raises BaseFailed if the file is about another run."""
        self._path = path
        self.all: list[Swept] = []
        if path.exists():
            first, *lines = path.read_bytes().splitlines()
            known = msgspec.json.decode(first, type=Head)
            if known != head:
                raise BaseFailed(
                    f"{path} is about another run (seed {known.seed}, code {known.code}) than this one (seed {head.seed}, code"
                    f" {head.code}): take another --out"
                )
            self.all = [msgspec.json.decode(line, type=Swept) for line in lines]
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(msgspec.json.encode(head) + b"\n")

    def known(self) -> set[tuple[Target, ...]]:
        """What was run already."""
        return {one.targets for one in self.all}

    def add(self, one: Swept) -> None:
        """Keep it at once: a sweep may be broken off."""
        self.all.append(one)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(one) + b"\n")


def pairs(wanted: Sequence[Target], seed: int) -> Iterator[tuple[Target, Target]]:
    """Pairs of targets at different places, without end, in an order that follows from the seed."""
    source = random.Random(f"pairs {seed}")
    seen: set[tuple[int, int]] = set()
    most = len(wanted) * (len(wanted) - 1) // 2
    while len(seen) < most:
        one, two = sorted((int(source.random() * len(wanted)), int(source.random() * len(wanted))))
        if (one, two) in seen or one == two:
            continue
        seen.add((one, two))
        if _apart(wanted[one], wanted[two]):
            yield wanted[one], wanted[two]


def _apart(one: Target, two: Target) -> bool:
    """Whether both can be in one plan: a statement stops at one place only."""
    first, second = one.event.trigger, two.event.trigger
    same = getattr(first, "number", 0) == getattr(second, "number", -1) and one.event.worker == two.event.worker
    return one.place != two.place and not same


async def sweep(
    order: Order,
    seed: int,
    wanted: Iterator[tuple[Target, ...]],
    results: Results,
    told: Callable[[Swept], None],
    *,
    until: float,
    most: int | None = None,
) -> None:
    """Run what is wanted and not known yet, `order.jobs` at a time, until none is left, `most` have been run, or `until`
    (monotonic) has come.
    """
    known = results.known()
    left = itertools.islice((targets for targets in wanted if targets not in known), most)

    async def lane(number: int) -> None:
        async with open_sim_ground(order.work, number) as ground:
            for targets in left:
                if time.monotonic() >= until:
                    break
                one = await strike(order, ground, seed, targets)
                results.add(one)
                told(one)

    async with _lanes() as tasks:
        for number in range(order.jobs):
            tasks.create_task(lane(number))


async def strike(order: Order, ground: SimGround, seed: int, targets: tuple[Target, ...]) -> Swept:
    """The run of the seed with these faults."""
    plan = Plan(events=tuple(one.event for one in targets))
    own = dataclasses.replace(order, plan=plan)
    try:
        observed = await ground.observe(seed, plan)
    except RunFailed as error:  # the harness's failure, or the workload's: what the other runs find is not lost for it
        why = (f"the run failed: {str(error).strip().splitlines()[-1]}",)
        return Swept(
            targets=targets, verdict="unexplained", struck=0, why=why, token=token_of(own, seed, ground.postgres)
        )
    findings = judge(observed.evidence, order.scenario.invariants)
    struck = sum(record.fired for record in observed.faults)
    led_away = len(targets) > 1 and 0 < struck < len(targets)
    doubts = () if led_away else verdict.doubts_of(observed)
    passed = not findings and not doubts
    return Swept(
        targets=targets,
        verdict="fail" if findings else "pass" if passed else "unexplained",
        struck=struck,
        why=() if findings else doubts,
        broken=tuple(sorted({finding.invariant for finding in findings})),
        message=findings[0].message if findings else "",
        token="" if passed else token_of(own, seed, ground.postgres, observed.simulated),
        led_away=led_away,
    )


@contextlib.asynccontextmanager
async def _lanes() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose first error is the one that is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
