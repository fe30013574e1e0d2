"""Faults at statements: the session stands still there, and its worker with it, until the fault has taken effect."""

import asyncio
from functools import partial

from duress.faults.injectors.injection import Injection
from duress.faults.observe import Sighting
from duress.faults.plan import AtStatement, CrashBackend, DropConnection, Event, TerminateBackend
from duress.scenarios.recorder import Recorder
from duress.scenarios.sim.crew import SimCrew
from duress.scenarios.sim.injector import SimInjector
from duress.scenarios.strikes import Strikes
from duress.simulator import Run, Session, Stop


class StatementInjector:
    """A SimInjector that, at a statement, strikes the session or the connection of that statement."""

    def __init__(self, run: Run, recorder: Recorder, others: SimInjector) -> None:
        self._run = run
        self._recorder = recorder
        self._others = others
        self.standing: dict[int, Session] = {}  # worker → its session that stands still

    async def inject(self, event: Event, worker: int) -> Injection:
        """See SimInjector.inject."""
        session = self.standing.get(worker)
        if session is None or not isinstance(event.trigger, AtStatement):
            return await self._others.inject(event, worker)
        injection = Injection(event, worker)
        match event.fault:
            case TerminateBackend():
                injection.begin(self._terminate(injection, session))
            case CrashBackend():
                injection.begin(self._crash(injection, session))
            case DropConnection(how=how):
                injection.begin(self._drop(injection, session, how == "fin"))
            case _:
                return await self._others.inject(event, worker)
        await injection.released()
        return injection

    async def _terminate(self, injection: Injection, session: Session) -> None:
        """SIGTERM; one inside a statement sees it when it goes on, at the latest when the statement is done."""
        injection.asked = self._clock()
        session.terminate()
        injection.release()
        await session.gone()
        injection.took_effect(self._sighting(f"session {session.number} of {session.process} is gone"))
        injection.healed = self._clock()

    async def _crash(self, injection: Injection, session: Session) -> None:
        injection.asked = self._clock()
        self._run.server.kill(session)
        injection.took_effect(self._sighting(f"the backend of session {session.number} was killed: all are gone"))
        await self._run.server.ready()
        injection.was_healed(self._sighting("PostgreSQL has recovered"))

    async def _drop(self, injection: Injection, session: Session, orderly: bool) -> None:
        injection.asked = self._clock()
        if session.link is None:
            injection.missed(f"session {session.number} had lost its client")
            return
        session.link.drop("fin" if orderly else "rst")
        injection.took_effect(self._sighting(f"the connection of session {session.number} is closed"))
        injection.healed = self._clock()

    def _clock(self) -> float:
        return self._recorder.began + self._recorder.now()

    def _sighting(self, what: str) -> Sighting:
        return Sighting(self._clock(), what)


class Statements:
    """Stops the statements that a plan names, and has their faults injected."""

    def __init__(self, run: Run, crew: SimCrew, strikes: Strikes, injector: StatementInjector) -> None:
        self._crew = crew
        self._strikes = strikes
        self._injector = injector
        self._arrivals: asyncio.Queue[tuple[int, int, Session]] = asyncio.Queue()
        for index, event in strikes.triggers.statements:
            trigger, worker = event.trigger, event.worker
            assert isinstance(trigger, AtStatement) and worker is not None, "see validation.py"
            reached = partial(self._reached, index, worker)
            run.sessions.stops.add(Stop(f"worker-{worker}", trigger.number, trigger.where, reached, trigger.point))

    def _reached(self, index: int, worker: int, session: Session) -> None:
        self._crew.worker(worker).hold("statement")
        self._arrivals.put_nowait((index, worker, session))

    async def attend(self) -> None:
        """Serve, one after the other, for ever."""
        while True:
            index, number, session = await self._arrivals.get()
            worker = self._crew.worker(number)
            incarnation = worker.process.incarnation
            self._injector.standing[number] = session
            try:
                await self._strikes.at_statement(index, number)
            finally:
                del self._injector.standing[number]
                session.go_on()
                if worker.process.incarnation == incarnation:
                    worker.let_go("statement")
