"""The plan at work: pulls each trigger at its moment, has the fault injected, and keeps what became of it."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from duress.faults.injectors.injection import Injection
from duress.faults.plan import AtTime, Event, KillWorker, Plan, StopWorker, describe, kind
from duress.scenarios import history
from duress.scenarios.points import Reported
from duress.scenarios.recorder import Recorder
from duress.scenarios.triggers import Triggers

VICTIM_BOUND = 3.0  # seconds that a timed fault waits for a victim with work in flight
LOOK_AGAIN = 0.01  # seconds
# Seconds from the first try at a planned fault. An outage is shorter, though points are reached often in it.
TRY_FOR = 5.0


class Crew(Protocol):
    """Who may be struck."""

    def alive(self) -> list[int]:
        """The numbers of the workers that have joined and not ended."""
        ...

    def expect_end(self, worker: int) -> None:
        """The worker's present process is about to be ended on purpose."""
        ...

    def expect_no_more(self, worker: int) -> None:
        """It has been ended, or will not be."""
        ...


class Injector(Protocol):
    """How a fault is injected in this world."""

    async def inject(self, event: Event, worker: int) -> Injection:
        """Returns when the victim may go on: the effect has been seen, or it has not fired (`reason` says why)."""
        ...


@dataclass(slots=True)
class Strike:
    """One planned fault. Times are CLOCK_MONOTONIC."""

    event: Event
    worker: int | None
    injection: Injection | None = None  # of the last try, once it is known that there will be no other
    tried_at: float | None = None  # first
    over: bool = False
    why_not: str = "its trigger never came"

    @property
    def fired(self) -> bool:
        return self.injection is not None and self.injection.fired


class Strikes:
    """All faults of one run. Give `held` to the crew, run `timed` beside the workload, and `settle` at the end."""

    def __init__(self, plan: Plan, recorder: Recorder) -> None:
        self.triggers = Triggers(plan)
        self.all = [Strike(event, event.worker) for event in plan.events]
        self._recorder = recorder
        self._crew: Crew | None = None
        self._injector: Injector | None = None
        self._follows: list[asyncio.Task[None]] = []
        self._struck: set[int] = set()  # workers that suffer a fault now
        self._striking = 0
        self._closed = False

    def attach(self, crew: Crew, injector: Injector) -> None:
        self._crew, self._injector = crew, injector

    @property
    def injected(self) -> bool:
        """Every planned fault has had its chance: it has taken effect, or waits for a victim no longer."""
        return self._closed or all(strike.fired or strike.over for strike in self.all)

    @property
    def used_up(self) -> bool:
        """Every planned fault has had its chance, and none is still in effect."""
        return self.injected and all(follow.done() for follow in self._follows)

    @property
    def quiet(self) -> bool:
        """None is in effect now; others may still come."""
        return not self._striking and all(follow.done() for follow in self._follows)

    def close(self) -> None:
        """No trigger is pulled any more."""
        self._closed = True

    async def held(self, worker: int, report: Reported) -> None:
        """A worker stands still at an armed point; returns when it may go on."""
        for index, event in self.triggers.reached(worker, report.name, report.facts.get("name")):
            if not self._closed:
                await self._strike(index, event, worker)
            if self.all[index].injection is None:
                self.triggers.again(index, event, worker)

    async def at_statement(self, index: int, worker: int) -> None:
        """A statement of the worker stands still where this event is to strike; returns when it may go on."""
        if not self._closed:
            await self._strike(index, self.all[index].event, worker)

    async def timed(self) -> None:
        """Pull the triggers that are moments; the workload begins now."""
        async with asyncio.TaskGroup() as events:
            for index, event in self.triggers.timed:
                events.create_task(self._at_time(index, event))

    async def settle(self) -> None:
        """Heal what is still in effect, and wait until everything has healed."""
        self.close()
        while self._striking:  # noqa: ASYNC110  # at most once in a run, when the time is up
            await asyncio.sleep(LOOK_AGAIN)
        for strike in self.all:
            if strike.injection is not None:
                await strike.injection.heal()
        await asyncio.gather(*self._follows)

    async def _at_time(self, index: int, event: Event) -> None:
        assert isinstance(event.trigger, AtTime)
        await asyncio.sleep(event.trigger.seconds - self._recorder.now())
        while self.all[index].injection is None and not self._closed:
            await self._strike(index, event, await self._victim(event))
            if self.all[index].injection is None:
                await asyncio.sleep(LOOK_AGAIN)

    async def _victim(self, event: Event) -> int:
        """The worker to strike: with work in flight, so that the fault matters, if that comes soon enough."""
        deadline = self._recorder.now() + VICTIM_BOUND
        while True:
            worker = self._busiest(event.worker)
            if worker is not None and (self._recorder.in_flight(worker) or self._recorder.now() >= deadline):
                return worker
            if self._recorder.now() >= deadline or self._closed:
                return event.worker or 0  # the injector says what is wrong with it
            await asyncio.sleep(LOOK_AGAIN)

    def _busiest(self, wanted: int | None) -> int | None:
        assert self._crew is not None
        candidates = [number for number in self._crew.alive() if wanted in (number, None)]
        free = [number for number in candidates if number not in self._struck] if wanted is None else candidates
        return max(free, key=lambda number: (self._recorder.in_flight(number), -number), default=None)

    async def _strike(self, index: int, event: Event, worker: int) -> None:
        """Inject once. Where there was nothing to strike (no session during an outage), it counts as a try only."""
        assert self._crew is not None and self._injector is not None
        strike = self.all[index]
        strike.worker = worker
        if strike.tried_at is None:
            strike.tried_at = self._recorder.now()
        self._struck.add(worker)
        self._striking += 1
        ends = isinstance(event.fault, KillWorker | StopWorker)
        if ends:
            self._crew.expect_end(worker)
        try:
            injection = await self._injector.inject(event, worker)
        finally:
            self._striking -= 1
            if ends:
                self._crew.expect_no_more(worker)
        if injection.reason is not None and self._recorder.now() < strike.tried_at + TRY_FOR:
            self._struck.discard(worker)
            strike.why_not = injection.reason
            return
        strike.injection = injection
        self._follows.append(asyncio.create_task(self._follow(index, strike, worker), name=describe(event)))

    async def _follow(self, index: int, strike: Strike, worker: int) -> None:
        """Enter the fault in the history, as far as it is known, when it is over."""
        assert strike.injection is not None
        facts = {"index": index, "kind": kind(strike.event.fault), "worker": worker}
        try:
            await strike.injection.done()
        finally:
            strike.over = True
            self._struck.discard(worker)
            self._enter(history.FAULT_ASKED, facts, strike.injection.asked)
            effect = {**facts, "confirmed_by": strike.injection.confirmed_by}
            self._enter(history.FAULT_EFFECT, effect, strike.injection.effect)
            self._enter(history.FAULT_HEALED, facts, strike.injection.healed)
            if not strike.fired:
                strike.why_not = strike.injection.reason or "it took no effect"

    def _enter(self, name: str, facts: dict[str, object], at: float | None) -> None:
        if at is not None:
            self._recorder.add("harness", name, facts, at)
