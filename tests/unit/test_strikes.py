"""A planned fault that finds nothing to strike is tried again for as long as an outage lasts, then named as not fired."""

import asyncio
from typing import Any

import pytest

from duress.faults.injectors.injection import Injection
from duress.faults.observe import Sighting
from duress.faults.plan import AtPoint, Event, Plan, TerminateBackend
from duress.scenarios import strikes
from duress.scenarios.points import Reported
from duress.scenarios.recorder import Recorder
from duress.scenarios.strikes import Strikes

EVENT = Event(trigger=AtPoint(point="step.checkpointing"), fault=TerminateBackend(), worker=0)
REACHED = Reported(at=0.0, name="step.checkpointing", facts={"name": "charge"}, held=True)


class Outage:
    """An injector whose victim has no session until `over`."""

    def __init__(self) -> None:
        self.over = False

    async def inject(self, event: Event, worker: int) -> Injection:
        injection = Injection(event, worker)
        if self.over:
            injection.took_effect(Sighting(1.0, "seen"))
        else:
            injection.missed("no session")
        return injection


def struck(outage: Outage) -> Strikes:
    made = Strikes(Plan(events=(EVENT,)), Recorder())
    crew: Any = object()
    injector: Any = outage
    made.attach(crew, injector)
    return made


def test_a_point_that_is_reached_often_during_an_outage_uses_up_nothing() -> None:
    async def run() -> None:
        outage = Outage()
        made = struck(outage)
        for _ in range(50):
            await made.held(0, REACHED)
            assert not made.used_up
        outage.over = True
        await made.held(0, REACHED)
        await made.settle()
        assert made.all[0].fired and made.used_up

    asyncio.run(run())


def test_what_finds_nothing_for_long_has_not_fired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strikes, "TRY_FOR", 0.0)

    async def run() -> None:
        made = struck(Outage())
        await made.held(0, REACHED)
        await made.settle()
        assert not made.all[0].fired and made.used_up
        assert made.all[0].why_not == "no session"

    asyncio.run(run())


class Trap:
    """An injector that lets its victim go on, and strikes when it next sees `prey`."""

    def __init__(self) -> None:
        self.prey = asyncio.Event()

    async def inject(self, event: Event, worker: int) -> Injection:
        injection = Injection(event, worker)

        async def life() -> None:
            injection.release()
            await self.prey.wait()
            injection.took_effect(Sighting(1.0, "seen"))
            await injection.hold(60.0)

        injection.begin(life())
        await injection.released()
        return injection


def test_a_fault_that_waits_for_its_victim_is_not_yet_injected() -> None:
    async def run() -> None:
        trap = Trap()
        made = Strikes(Plan(events=(EVENT,)), Recorder())
        crew: Any = object()
        injector: Any = trap
        made.attach(crew, injector)
        await made.held(0, REACHED)
        assert not made.injected  # work must go on, or nothing will be there to strike
        trap.prey.set()
        await asyncio.sleep(0.01)
        assert made.injected and not made.used_up
        await made.settle()
        assert made.used_up

    asyncio.run(run())
