"""Faults in the simulated world. What is confirmed is read back from the simulation, not taken from having asked for it."""

import asyncio
from collections.abc import Coroutine
from typing import Final

from duress.faults.injectors.injection import Injection
from duress.faults.observe import Sighting
from duress.faults.plan import (
    AtPoint,
    CrashBackend,
    Event,
    KillWorker,
    PauseWorker,
    RestartPostgres,
    StopWorker,
    TerminateBackend,
    kind,
)
from duress.scenarios.recorder import Recorder
from duress.scenarios.sim.crew import SimCrew, Worker
from duress.simulator import Run

SIGNAL: Final = 20e-6  # virtual seconds that a signal takes: what follows from it is later than what asked for it
LOOK_AGAIN: Final = 0.005  # virtual seconds
VICTIM_BOUND: Final = 3.0  # virtual seconds that a timed fault waits for a victim that is away
TRANSACTION_BOUND: Final = 0.5  # virtual seconds that one waits for a session inside a transaction


class SimInjector:
    """Injects faults into a crew and its server. Times are the recorder's clock."""

    def __init__(self, run: Run, crew: SimCrew, recorder: Recorder) -> None:
        self._run = run
        self._crew = crew
        self._recorder = recorder
        self._outage = asyncio.Lock()  # one at a time

    async def inject(self, event: Event, worker: int) -> Injection:
        """Inject `event` into worker `worker`; returns when the victim may go on. See ProcsInjector.inject."""
        injection = Injection(event, worker)
        injection.begin(self._life(injection))
        await injection.released()
        return injection

    def _life(self, injection: Injection) -> Coroutine[None, None, None]:
        match injection.event.fault:
            case KillWorker(restart_after=after):
                return self._kill(injection, after)
            case PauseWorker(duration=duration):
                return self._pause(injection, duration)
            case StopWorker(restart_after=after):
                return self._stop(injection, after)
            case TerminateBackend():
                return self._terminate(injection)
            case CrashBackend():
                return self._crash(injection)
            case RestartPostgres() as fault:
                return self._restart(injection, fault)
            case fault:
                raise AssertionError(f"{kind(fault)} was let through, and nobody here does it")

    # Workers

    async def _kill(self, injection: Injection, after: float | None) -> None:
        victim = await self._victim(injection)
        if victim is None:
            return
        injection.asked = self._clock()
        await asyncio.sleep(SIGNAL)
        incarnation = victim.process.incarnation
        victim.process.kill()
        end = await victim.process.ended()
        injection.took_effect(self._sighting(f"{victim.process.name}, incarnation {incarnation}, was {end.how}"))
        await self._come_back(injection, victim, incarnation, after)

    async def _pause(self, injection: Injection, duration: float) -> None:
        victim = await self._victim(injection)
        if victim is None:
            return
        injection.asked = self._clock()
        victim.hold("fault")
        if not victim.process.paused:
            raise RuntimeError(f"{victim.process} was told to stand still and does not")
        injection.took_effect(self._sighting(f"{victim.process.name} stands still"))
        incarnation = victim.process.incarnation
        await injection.hold(duration)
        if victim.process.incarnation == incarnation:
            victim.let_go("fault")
        injection.was_healed(self._sighting("it goes on" if victim.process.alive else "it has ended"))

    async def _stop(self, injection: Injection, after: float | None) -> None:
        victim = await self._victim(injection)
        if victim is None:
            return
        injection.asked = self._clock()
        incarnation = victim.process.incarnation
        victim.process.stop()
        injection.release()
        end = await victim.process.ended()
        injection.took_effect(self._sighting(f"{victim.process.name}, incarnation {incarnation}, {end.how}"))
        await self._come_back(injection, victim, incarnation, after)

    async def _victim(self, injection: Injection) -> Worker | None:
        """The worker, once it is there; None (and the injection missed) if it does not come in time."""
        worker = self._crew.worker(injection.worker)
        begun = self._clock()
        while not worker.process.alive:
            if not self._patient(injection, begun):
                injection.missed(f"worker {injection.worker} is not there")
                return None
            await asyncio.sleep(LOOK_AGAIN)
        return worker

    async def _come_back(self, injection: Injection, victim: Worker, incarnation: int, after: float | None) -> None:
        """Start the worker again, unless another injection that ended the same process already has."""
        if after is None:
            return
        await injection.hold(after)
        if victim.process.incarnation == incarnation:
            await self._crew.respawn(victim.number)
        injection.was_healed(self._sighting(f"incarnation {victim.process.incarnation} runs in its place"))

    # The server

    async def _terminate(self, injection: Injection) -> None:
        """pg_terminate_backend; nothing to undo, the worker has to open another session."""
        held = isinstance(injection.event.trigger, AtPoint)
        begun = self._clock()
        until = begun + (0.0 if held else TRANSACTION_BOUND)
        while True:
            name = self._crew.worker(injection.worker).process.name
            asked = self._clock()
            session = self._run.server.terminate(name, in_transaction=asked < until)
            if session is not None:
                break
            if not self._patient(injection, begun):
                injection.missed(f"worker {injection.worker} has no session that could be terminated")
                return
            await asyncio.sleep(LOOK_AGAIN)
        injection.asked = asked
        await self._run.server.gone(session)
        injection.took_effect(self._sighting(f"session {session.number} of {name} is gone"))
        injection.healed = self._clock()

    async def _crash(self, injection: Injection) -> None:
        async with self._outage:
            injection.asked = self._clock()
            session = self._run.server.crash(self._crew.worker(injection.worker).process.name)
            if session is None:
                injection.missed("no worker has a session")
                return
            injection.took_effect(self._sighting(f"the backend of session {session.number} was killed: all are gone"))
            await self._run.server.ready()
            injection.was_healed(self._sighting("PostgreSQL has recovered"))

    async def _restart(self, injection: Injection, fault: RestartPostgres) -> None:
        async with self._outage:
            injection.asked = self._clock()
            self._run.server.stop(fault.mode)
            injection.took_effect(self._sighting(f"PostgreSQL has stopped ({fault.mode})"))
            await injection.hold(fault.down)
            self._run.server.start()
            await self._run.server.ready()
            injection.was_healed(self._sighting("PostgreSQL answers again"))

    def _patient(self, injection: Injection, begun: float) -> bool:
        """Whether it still waits for a victim."""
        held = isinstance(injection.event.trigger, AtPoint)
        return not held and not injection.healing.is_set() and self._clock() < begun + VICTIM_BOUND

    def _clock(self) -> float:
        return self._recorder.began + self._recorder.now()

    def _sighting(self, what: str) -> Sighting:
        return Sighting(self._clock(), what)
