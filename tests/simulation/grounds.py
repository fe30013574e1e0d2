"""Payments on a simulated ground, in a process of its own, and plans of one fault for it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from duress.faults.plan import AnyFault, AtPoint, AtTime, Event, Plan
from duress.scenarios import registry
from duress.scenarios.invariants import judge
from duress.scenarios.observed import Observed
from duress.scenarios.result import FaultRecord
from duress.scenarios.settings import USUAL
from duress.scenarios.sim.ground import SimGround, open_sim_ground
from duress.scenarios.work import Work

T = TypeVar("T")
PAYMENTS = registry.find("payments")


def work(folder: Path, canary: str | None = None) -> Work:
    return Work(
        scenario=PAYMENTS,
        reference="payments",
        world="sim",
        options={**PAYMENTS.options, **PAYMENTS.simulated},
        settings=USUAL["sim"],
        canary=canary,
        dsn=None,
        logs=folder,
    )


def on_ground(folder: Path, use: Callable[[SimGround], Awaitable[T]], canary: str | None = None) -> T:
    """Open a ground in a process of its own, and use it."""

    async def run() -> T:
        async with open_sim_ground(work(folder, canary), 0) as ground:
            return await use(ground)

    return asyncio.run(run())


def at_point(fault: AnyFault, point: str, step: str | None = None, occurrence: int = 2) -> Plan:
    return Plan(events=(Event(trigger=AtPoint(point=point, step=step, occurrence=occurrence), fault=fault),))


def at_charge(fault: AnyFault, occurrence: int = 2) -> Plan:
    """The fault, when a worker is about to write the checkpoint of a charge."""
    return at_point(fault, "step.checkpointing", "charge", occurrence)


def soon(fault: AnyFault) -> Plan:
    return Plan(events=(Event(trigger=AtTime(seconds=0.05), fault=fault),))


class Proving:
    """A ground that is kept open, for one test after the other."""

    def __init__(self, runner: asyncio.Runner, ground: SimGround) -> None:
        self._runner = runner
        self._ground = ground

    def observe(self, seed: int, plan: Plan) -> Observed:
        return self._runner.run(self._ground.observe(seed, plan))

    def survives(self, *runs: tuple[int, Plan]) -> list[FaultRecord]:
        """Run each plan, of one fault, under its seed. It must strike, and payments must pass."""
        records = []
        for seed, plan in runs:
            observed = self.observe(seed, plan)
            [record] = observed.faults
            assert record.fired and record.confirmed_by
            assert observed.doubts == ()
            assert judge(observed.evidence, PAYMENTS.invariants) == []
            assert sum(row.status == "succeeded" for row in observed.evidence.final.workflows) >= 8
            records.append(record)
        return records


@contextlib.contextmanager
def proving(folder: Path) -> Iterator[Proving]:
    """Open a ground and keep it."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        opened = open_sim_ground(work(folder), 0)
        ground = runner.run(opened.__aenter__())
        stack.callback(lambda: runner.run(opened.__aexit__(None, None, None)))
        yield Proving(runner, ground)
