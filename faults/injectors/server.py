"""Faults of the server: end a session, crash the whole by killing a backend, restart it."""

import asyncio
import contextlib
import os
import signal
from functools import partial
from pathlib import Path

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.sessions import Session, Sessions
from duress.faults.injectors.target import Target
from duress.faults.observe import LogWatch, Observer, ProcessWatch, Sighting
from duress.faults.plan import AtPoint, CrashBackend, RestartPostgres, TerminateBackend

POLL = 0.002  # seconds between two looks for a session; a transaction may be open for a few milliseconds only


class ServerFaults:
    """The lives of injections that strike the server or a session of it."""

    def __init__(self, target: Target, observer: Observer, sessions: Sessions, patience: Patience) -> None:
        self._target = target
        self._observer = observer
        self._sessions = sessions
        self._patience = patience
        self.outage = asyncio.Lock()  # one at a time: a restart in the middle of crash recovery is another fault

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
            process = self._target.process(injection.worker)
            incarnation = None if process is None else process.incarnation
            if incarnation is not None:
                session = await self._sessions.terminate(incarnation, in_transaction_only=in_transaction_only)
                if session is not None:
                    injection.asked = asked
                    return session, log
            if not in_transaction_only and (not patient or asked >= begun + self._patience.victim):
                injection.missed(self._no_session(injection, incarnation))
                return None
            await asyncio.sleep(POLL if in_transaction_only else 10 * POLL)

    async def crash(self, injection: Injection, fault: CrashBackend) -> None:
        """SIGKILL to one backend: the postmaster ends all sessions and the server goes through crash recovery."""
        async with self.outage:
            while True:
                log = self._observer.log()  # before we look: what we find may be ending already
                pid = await self._backend(injection)
                if pid is None or log is None:
                    injection.missed("no worker has a session")
                    return
                injection.asked = self._observer.clock()
                with contextlib.suppress(ProcessLookupError):  # another fault ended it at that moment: strike again
                    os.kill(pid, signal.SIGKILL)
                    sighting = await self._observer.see(partial(log.killed, pid), self._patience.effect)
                    if sighting is not None:
                        break
                    if not log.terminated(pid):
                        injection.missed(f"the server did not notice the end of backend {pid}")
                        return
            injection.took_effect(sighting)
            injection.was_healed(await back(self._observer, self._patience, log))

    async def restart(self, injection: Injection, fault: RestartPostgres) -> None:
        """Stop the server, leave it away for a while, start it. heal() cannot shorten its absence."""
        server = self._target.server
        assert server is not None, "refused before"
        async with self.outage:
            before = await self._observer.server_started()
            log = self._observer.log()
            watch = ProcessWatch(server.postmaster_pid)
            injection.asked = self._observer.clock()
            restart = asyncio.create_task(asyncio.to_thread(server.restart, fault.mode, fault.down))
            try:
                sighting = await self._observer.see(watch.gone, self._patience.effect)
                if sighting is not None:
                    injection.took_effect(sighting)
            finally:
                await asyncio.shield(restart)
            if sighting is None:
                injection.missed(f"postmaster {watch.pid} was not seen to end")
                return
            injection.was_healed(await back(self._observer, self._patience, log, other_than=before))

    async def _backend(self, injection: Injection) -> int | None:
        """A backend of the worker, or of another one: which of them dies makes no difference to the server."""
        deadline = self._observer.clock() + self._patience.victim
        while True:
            process = self._target.process(injection.worker)
            incarnation = None if process is None else process.incarnation
            pid = None if incarnation is None else await self._sessions.find(incarnation)
            pid = pid or await self._sessions.find(None)
            if pid is not None and self._is_ours(pid):
                return pid
            if self._observer.clock() >= deadline or injection.healing.is_set():
                return None
            await asyncio.sleep(10 * POLL)

    def _is_ours(self, pid: int) -> bool:
        """A backend is a child of the postmaster. Numbers come from a database: never SIGKILL on its word alone."""
        assert self._target.server is not None
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{pid}/status").read_text(errors="replace")
            return f"\nPPid:\t{self._target.server.postmaster_pid}\n" in status
        return False

    def _no_session(self, injection: Injection, incarnation: int | None) -> str:
        if incarnation is None:
            return f"worker {injection.worker} has no process that has joined"
        return f"worker {injection.worker} (incarnation {incarnation}) has no session that could be terminated"


def _ended(log: LogWatch, pid: int) -> str | None:
    """How a session that was told to end did: by itself, or with all others when the server crashed."""
    return log.terminated(pid) or log.crashed()


async def back(
    observer: Observer, patience: Patience, log: LogWatch | None, other_than: float | None = None
) -> Sighting:
    """The server says that it is ready, and answers; after a restart, as another postmaster."""
    assert log is not None, "our own server's log can be read"

    async def look() -> str | None:
        ready = log.ready()
        started = await observer.server_started() if ready else None
        if started is None or started == other_than:
            return None
        return ready if other_than is None else f"pg_postmaster_start_time went from {other_than} to {started}"

    sighting = await observer.see(look, patience.outage)
    if sighting is None:
        raise RuntimeError(f"the server was not back {patience.outage:g} s after an outage")
    return sighting
