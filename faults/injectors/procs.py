"""Faults for real processes and a real server, on one machine.

Each injection is confirmed by `duress.faults.observe`, which shares no code with this package, and is undone whatever
happens: when its time is over, when it is healed, when the injector is left, and by the journal if we are killed.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from duress.faults.injectors.backends import BackendFaults
from duress.faults.injectors.clocks import ClockFaults
from duress.faults.injectors.injection import Injection
from duress.faults.injectors.network import NetworkFaults
from duress.faults.injectors.outages import Outages
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.pooled import PooledFaults
from duress.faults.injectors.real import RealInjector
from duress.faults.injectors.server import ServerFaults
from duress.faults.injectors.sessions import Sessions
from duress.faults.injectors.statements import StatementFaults
from duress.faults.injectors.target import Target
from duress.faults.injectors.workers import WorkerFaults
from duress.faults.journal import Journal
from duress.faults.observe import Observer
from duress.faults.plan import (
    CancelStatement,
    ClockJump,
    ClockSkew,
    CrashBackend,
    CutCommit,
    Deadlock,
    DiskFull,
    DropConnection,
    Event,
    Failover,
    Fault,
    IdleInTransactionTimeout,
    KillPostmaster,
    KillWorker,
    LockTimeout,
    LoseNotify,
    Partition,
    PausePostgres,
    PauseWorker,
    Plan,
    Pooler,
    ReadOnly,
    RefuseConnections,
    RestartPostgres,
    SerializationFailure,
    SlowLink,
    StatementTimeout,
    StopWorker,
    TerminateBackend,
    TooManyConnections,
)
from duress.faults.worlds import refuse

Life = Callable[[Injection, Any], Coroutine[None, None, None]]  # with the fault, of the kind that the life is for


class ProcsInjector(RealInjector):
    """Injects faults into `target`. `clock` is monotonic and gives all times, in seconds."""

    def __init__(
        self, target: Target, *, clock: Callable[[], float], journal: Journal, patience: Patience | None = None
    ) -> None:
        super().__init__(Sessions(target.dsn))
        patience = patience or Patience()
        observer = Observer(
            clock=clock, dsn=target.dsn, log=lambda: None if target.server is None else target.server.log_path
        )
        self._target = target
        self._on_workers = WorkerFaults(target, observer, journal, patience)
        self._on_server = ServerFaults(target, observer, patience)
        backends = BackendFaults(
            observer,
            self._sessions,
            patience,
            incarnation=self._incarnation,
            kill=self._kill_backend,
            outage=self._on_server.outage,
        )
        self._on_network = NetworkFaults(target, observer, journal, patience)
        self._outages = Outages(target, observer, self._on_server, self._sessions, journal, patience)
        clocks = ClockFaults(target, observer, patience)
        self._on_statements = StatementFaults(target, observer, self._sessions, patience)
        self._lives: dict[type[Fault], Life] = {
            ClockSkew: clocks.skew,
            ClockJump: clocks.jump,
            Pooler: PooledFaults(target, observer, patience).pool,
            KillWorker: self._on_workers.kill,
            PauseWorker: self._on_workers.pause,
            StopWorker: self._on_workers.stop,
            DropConnection: self._on_network.drop,
            RefuseConnections: self._on_network.refuse,
            Partition: self._on_network.partition,
            SlowLink: self._on_network.slow,
            CutCommit: self._on_network.cut_commit,
            LoseNotify: self._on_network.lose_notify,
            TerminateBackend: backends.terminate,
            CancelStatement: self._on_statements.cancel,
            StatementTimeout: self._on_statements.statement_timeout,
            LockTimeout: self._on_statements.lock_timeout,
            Deadlock: self._on_statements.deadlock,
            SerializationFailure: self._on_statements.serialization_failure,
            IdleInTransactionTimeout: self._on_statements.idle_in_transaction,
            ReadOnly: self._on_statements.read_only,
            CrashBackend: backends.crash,
            RestartPostgres: self._on_server.restart,
            PausePostgres: self._outages.pause,
            KillPostmaster: self._outages.kill_postmaster,
            Failover: self._outages.fail_over,
            DiskFull: self._outages.fill_disk,
            TooManyConnections: self._outages.take_connections,
        }

    async def inject(self, event: Event, worker: int) -> Injection:
        """Inject `event` into worker `worker` (its number; the caller has resolved "any worker").

        Returns when the victim may go on: the effect has been seen, or it has not fired (`reason` says why). Only
        stop-worker and cut-commit return earlier, since what they wait for (the worker's end, its next COMMIT) cannot come
        while it is held at a point; await `done()`. Healing goes on in the background; `done()` waits for it.
        Time triggers wait a while for their victim, if it is away or the server does not answer. Raises PlanError for a
        fault that the target does not allow.
        """
        network = self._target.network
        refuse(
            Plan(events=(event,)),
            "procs",
            "none" if network is None else network.name,
            own_server=self._target.server is not None,
        )
        return await self._begin(event, worker)

    def _life(self, injection: Injection) -> Coroutine[None, None, None]:
        fault = injection.event.fault
        return self._lives[type(fault)](injection, fault)

    def _incarnation(self, worker: int) -> int | None:
        process = self._target.process(worker)
        return None if process is None else process.incarnation

    async def _kill_backend(self, pid: int) -> bool:
        assert self._target.server is not None, "refused before"
        return _kill_child(self._target.server.postmaster_pid, pid)


def _kill_child(parent: int, pid: int) -> bool:
    """SIGKILL to a child of our postmaster. Numbers come from a database: never on its word alone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if f"\nPPid:\t{parent}\n" in Path(f"/proc/{pid}/status").read_text(errors="replace"):
            os.kill(pid, signal.SIGKILL)
            return True
    return False
