"""Faults of single sessions' server processes: end one by command, or crash the whole server by killing one."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.server import back
from duress.faults.injectors.sessions import Session, Sessions
from duress.faults.observe import LogWatch, Observer, Sighting
from duress.faults.plan import AtPoint, CrashBackend, TerminateBackend

POLL = 0.002  # seconds between two looks for a session; a transaction may be open for a few milliseconds only


class BackendFaults:
    """The lives of injections that strike a backend, wherever the server runs.

    `incarnation` gives that of a worker, or None while it has joined with none; `kill` sends SIGKILL to a backend, and
    says whether there was one of ours of this number; `outage` is held by whoever takes the server away.
    """

    def __init__(
        self,
        observer: Observer,
        sessions: Sessions,
        patience: Patience,
        *,
        incarnation: Callable[[int], int | None],
        kill: Callable[[int], Awaitable[bool]],
        outage: asyncio.Lock,
    ) -> None:
        self._observer = observer
        self._sessions = sessions
        self._patience = patience
        self._incarnation = incarnation
        self._kill = kill
        self._outage = outage

    async def terminate(self, injection: Injection, fault: TerminateBackend) -> None:
        """pg_terminate_backend; nothing to undo, the worker has to open another session."""
        while True:
            told = await self._tell(injection)
            if told is None:
                return
            session, log = told
            sighting = await self._observer.see(
                partial(self._observer.session_gone, session.pid, session.backend_start)
                if log is None
                else partial(_ended, log, session.pid),
                self._patience.effect,
            )
            if sighting is None:
                injection.missed(
                    f"session {session.pid} was still there {self._patience.effect:g} s after it was terminated"
                )
                return
            if log is None or log.terminated(session.pid):
                break
            # Another fault crashed the server at that moment, and took the session before it could obey: strike again.
        inside = " (inside a transaction)" if session.in_transaction else ""
        injection.took_effect(Sighting(sighting.at, sighting.what + inside))
        injection.healed = sighting.at

    async def _tell(self, injection: Injection) -> tuple[Session, LogWatch | None] | None:
        """The session that was told to end, preferably inside a transaction, and the log from then on.

        None (and the injection missed) if there is none.
        """
        clock = self._observer.clock
        held = isinstance(injection.event.trigger, AtPoint)
        begun = clock()
        while True:
            asked = clock()
            patient = not held and not injection.healing.is_set()
            in_transaction_only = patient and asked < begun + self._patience.transaction
            log = self._observer.log()
            incarnation = self._incarnation(injection.worker)
            if incarnation is not None:
                session = await self._sessions.terminate(incarnation, in_transaction_only=in_transaction_only)
                if session is not None:
                    injection.asked = asked
                    return session, log
            if not in_transaction_only and (not patient or asked >= begun + self._patience.victim):
                injection.missed(_no_session(injection.worker, incarnation))
                return None
            await asyncio.sleep(POLL if in_transaction_only else 10 * POLL)

    async def crash(self, injection: Injection, fault: CrashBackend) -> None:
        """SIGKILL to one backend: the postmaster ends all sessions and the server goes through crash recovery."""
        async with self._outage:
            deadline = self._observer.clock() + self._patience.victim
            while True:
                log = self._observer.log()  # before we look: what we find may be ending already
                pid = await self._find(injection, deadline)
                if pid is None or log is None:
                    injection.missed("no worker has a session")
                    return
                injection.asked = self._observer.clock()
                if not await self._kill(pid):  # another fault ended it at that moment: strike again
                    await asyncio.sleep(10 * POLL)
                    continue
                sighting = await self._observer.see(partial(log.killed, pid), self._patience.effect)
                if sighting is not None:
                    break
                if not log.terminated(pid):
                    injection.missed(f"the server did not notice the end of backend {pid}")
                    return
            injection.took_effect(sighting)
            injection.was_healed(await back(self._observer, self._patience, log))

    async def _find(self, injection: Injection, deadline: float) -> int | None:
        """A backend of the worker, or of another one: which of them dies makes no difference to the server."""
        while True:
            incarnation = self._incarnation(injection.worker)
            pid = None if incarnation is None else await self._sessions.find(incarnation)
            pid = pid or await self._sessions.find(None)
            over = self._observer.clock() >= deadline or injection.healing.is_set()
            if pid is not None or over:
                return None if over else pid
            await asyncio.sleep(10 * POLL)


def _no_session(worker: int, incarnation: int | None) -> str:
    if incarnation is None:
        return f"worker {worker} has no process that has joined"
    return f"worker {worker} (incarnation {incarnation}) has no session that could be terminated"


def _ended(log: LogWatch, pid: int) -> str | None:
    """How a session that was told to end did: by itself, or with all others when the server crashed."""
    return log.terminated(pid) or log.crashed()
