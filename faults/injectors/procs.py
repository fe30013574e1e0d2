"""Faults for real processes and a real server, on one machine.

Each injection is confirmed by `duress.faults.observe`, which shares no code with this package, and is undone whatever
happens: when its time is over, when it is healed, when the injector is left, and by the journal if we are killed.
"""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Self

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.outages import Outages
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.server import ServerFaults
from duress.faults.injectors.sessions import Sessions
from duress.faults.injectors.target import Target
from duress.faults.injectors.workers import WorkerFaults
from duress.faults.journal import Journal
from duress.faults.observe import Observer
from duress.faults.plan import (
    CrashBackend,
    DiskFull,
    Event,
    Failover,
    KillPostmaster,
    KillWorker,
    PausePostgres,
    PauseWorker,
    Plan,
    RestartPostgres,
    StopWorker,
    TerminateBackend,
    TooManyConnections,
    kind,
)
from duress.faults.worlds import refuse


class ProcsInjector:
    """Injects faults into `target`. An async context manager: on leaving, everything still injected is healed.

    `clock` is monotonic and gives all times, in seconds. What raises in the background is raised on leaving, after all
    has been healed.
    """

    def __init__(
        self, target: Target, *, clock: Callable[[], float], journal: Journal, patience: Patience | None = None
    ) -> None:
        patience = patience or Patience()
        observer = Observer(
            clock=clock, dsn=target.dsn, log=lambda: None if target.server is None else target.server.log_path
        )
        self._target = target
        self._on_workers = WorkerFaults(target, observer, journal, patience)
        self._sessions = Sessions(target.dsn)
        self._on_server = ServerFaults(target, observer, self._sessions, patience)
        self._outages = Outages(target, observer, self._on_server, self._sessions, journal, patience)
        self._injections: list[Injection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcomes = await asyncio.gather(*(one.heal() for one in self._injections), return_exceptions=True)
        await self._sessions.close()
        failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failed and error is None:
            raise failed[0]

    async def inject(self, event: Event, worker: int) -> Injection:
        """Inject `event` into worker `worker` (its number; the caller has resolved "any worker").

        Returns when the victim may go on: the effect has been seen, or it has not fired (`reason` says why). Only
        stop-worker returns earlier, when the signal has been sent: it takes effect when the worker has ended, for which
        a worker held at a point has to go on; await `done()`. Healing goes on in the background; `done()` waits for it.
        Time triggers wait a while for their victim, if it is away or the server does not answer. Raises PlanError for a
        fault that the target does not allow.
        """
        refuse(Plan(events=(event,)), "procs", own_server=self._target.server is not None)
        injection = Injection(event, worker)
        self._injections.append(injection)
        injection.begin(self._life(injection))
        await injection.released()
        return injection

    async def settle(self) -> None:
        """Wait until every injection is known to have fired or not, and has healed if it ever does."""
        for injection in self._injections:
            await injection.done()

    def _life(self, injection: Injection) -> Coroutine[None, None, None]:
        match injection.event.fault:
            case KillWorker() as fault:
                return self._on_workers.kill(injection, fault)
            case PauseWorker() as fault:
                return self._on_workers.pause(injection, fault)
            case StopWorker() as fault:
                return self._on_workers.stop(injection, fault)
            case TerminateBackend():
                return self._on_server.terminate(injection)
            case CrashBackend():
                return self._on_server.crash(injection)
            case RestartPostgres() as fault:
                return self._on_server.restart(injection, fault)
            case PausePostgres() as fault:
                return self._outages.pause(injection, fault)
            case KillPostmaster() as fault:
                return self._outages.kill_postmaster(injection, fault)
            case Failover() as fault:
                return self._outages.fail_over(injection, fault)
            case DiskFull() as fault:
                return self._outages.fill_disk(injection, fault)
            case TooManyConnections() as fault:
                return self._outages.take_connections(injection, fault)
            case fault:
                raise AssertionError(f"{kind(fault)} was let through, and nobody here does it")
