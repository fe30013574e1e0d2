"""Outages of the whole server beside crashes and restarts: paused, without its postmaster, full, lost to its standby."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

import psycopg

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.server import ServerFaults, back
from duress.faults.injectors.sessions import Sessions
from duress.faults.injectors.target import Target
from duress.faults.journal import Journal
from duress.faults.observe import APPLICATION_NAME, LogWatch, Observer, ProcessWatch
from duress.faults.plan import DiskFull, Failover, KillPostmaster, PausePostgres, TooManyConnections, describe
from duress.faults.postgres import Server, disk
from duress.faults.undo import Resume, children, identify

AT_ONCE = 16  # sessions that are opened at a time
TOP_UP = 0.01  # seconds between two fillings of a disk, or of the server's connections


class Outages:
    """The lives of injections that take our own server away; one outage at a time, with those of `server`."""

    def __init__(
        self,
        target: Target,
        observer: Observer,
        server: ServerFaults,
        sessions: Sessions,
        journal: Journal,
        patience: Patience,
    ) -> None:
        self._target = target
        self._observer = observer
        self._faults = server
        self._sessions = sessions
        self._journal = journal
        self._patience = patience

    async def pause(self, injection: Injection, fault: PausePostgres) -> None:
        """SIGSTOP to the postmaster, then to all that it has started; SIGCONT in the other order."""
        async with self._faults.outage:
            postmaster = self._server().postmaster_pid
            first = identify(postmaster)
            assert first is not None, "our own server was running"
            why = describe(injection.event)
            entries = [self._journal.record(Resume((first,)), why)]
            stopped = [first]
            try:
                injection.asked = self._observer.clock()
                os.kill(postmaster, signal.SIGSTOP)  # from now on nobody is born
                backends = children(postmaster)
                entries.append(self._journal.record(Resume(backends), why))
                stopped += backends
                watches = [ProcessWatch(one.pid) for one in stopped[1:]]
                for one in backends:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one.pid, signal.SIGSTOP)
                sighting = await self._observer.see(lambda: _all_stopped(postmaster, watches), self._patience.effect)
                if sighting is not None:
                    injection.took_effect(sighting)
                    await injection.hold(fault.duration)
            finally:
                for one in reversed(stopped):
                    if one.lives():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(one.pid, signal.SIGCONT)
                for entry in entries:
                    self._journal.done(entry)
            if sighting is None:
                injection.missed(f"postmaster {postmaster} was not stopped {self._patience.effect:g} s after SIGSTOP")
                return
            await self._answers_again(injection, "answers again")

    async def kill_postmaster(self, injection: Injection, fault: KillPostmaster) -> None:
        """SIGKILL to the postmaster alone; started again once its last session is gone."""
        async with self._faults.outage:
            server = self._server()
            before = await self._observer.server_started()
            log = self._observer.log()
            watch = ProcessWatch(server.postmaster_pid)
            injection.asked = self._observer.clock()
            os.kill(server.postmaster_pid, signal.SIGKILL)
            sighting = await self._observer.see(watch.gone, self._patience.effect)
            if sighting is not None:
                injection.took_effect(sighting)
            await asyncio.shield(asyncio.to_thread(server.restart, "immediate"))
            if sighting is None:
                injection.missed(f"postmaster {watch.pid} was not seen to end")
                return
            injection.was_healed(await back(self._observer, self._patience, log, other_than=before))

    async def fail_over(self, injection: Injection, fault: Failover) -> None:
        """Lose the primary with all that is on its way to the standby; read the standby; promote it."""
        pair = self._target.pair
        if pair is None or pair.primary is not pair.first:
            injection.missed("there is no standby (any more)")
            return
        async with self._faults.outage:
            watch = ProcessWatch(pair.first.postmaster_pid)
            log = LogWatch(pair.standby.log_path)
            injection.asked = self._observer.clock()
            await asyncio.shield(asyncio.to_thread(pair.lose_primary))
            sighting = await self._observer.see(watch.gone, self._patience.effect)
            if sighting is not None:
                injection.took_effect(sighting)
            await self._target.primary_lost()
            await asyncio.shield(asyncio.to_thread(pair.promote))
            if sighting is None:
                injection.missed(f"postmaster {watch.pid} was not seen to end")
                return
            promoted = await self._observer.see(log.promoted, self._patience.outage)
            if promoted is None:
                raise RuntimeError(f"the standby was not seen to become the primary; see {pair.standby.log_path}")
            injection.was_healed(promoted)

    async def fill_disk(self, injection: Injection, fault: DiskFull) -> None:
        """Take all space of the small disk that the data lies on; whatever the server frees meanwhile is taken too."""
        async with self._faults.outage:
            server = self._server()  # not before: the outage that was waited for may have been a failover
            if not server.small_disk:
                injection.missed("the server's data does not lie on a disk of its own, which could be filled")
                return
            log = self._observer.log()
            assert log is not None, "our own server's log can be read"
            injection.asked = self._observer.clock()
            filling = asyncio.create_task(_again_and_again(lambda: disk.fill(server.data_directory)))
            try:
                sighting = await self._observer.see(log.disk_full, self._patience.effect, unless=injection.healing)
                if sighting is not None:
                    injection.took_effect(sighting)
                    await injection.hold(fault.duration)
            finally:
                filling.cancel()
                await asyncio.gather(filling, return_exceptions=True)
                disk.empty(server.data_directory)
            ended = await self._ended_or_answers(server)
            if sighting is None:
                injection.missed("nobody wrote anything for which there was no space")
                return
            await self._answers_again(injection, ended)

    async def take_connections(self, injection: Injection, fault: TooManyConnections) -> None:
        """Open sessions until the server has no more, end those of the worker, and take what that frees."""
        async with self._faults.outage:
            held: list[psycopg.AsyncConnection] = []
            process = self._target.process(injection.worker)
            incarnation = None if process is None else process.incarnation
            if incarnation is None:
                injection.missed(f"worker {injection.worker} has no process that has joined")
                return
            try:
                await self._sessions.find(incarnation)  # our own session must be open before the others are taken
                injection.asked = self._observer.clock()
                await self._take_all(held)
                while await self._sessions.terminate(incarnation) is not None:
                    await self._take_all(held)
                await self._take_all(held)
                log = self._observer.log()
                assert log is not None, "our own server's log can be read"
                sighting = await self._observer.see(log.refused, self._patience.effect, unless=injection.healing)
                if sighting is not None:
                    injection.took_effect(sighting)
                    await injection.hold(fault.duration)
            finally:
                await asyncio.gather(*(one.close() for one in held), return_exceptions=True)
            if sighting is None:
                injection.missed("nobody asked for a connection while there was none")
                return
            await self._answers_again(injection, "takes connections again")

    async def _take_all(self, held: list[psycopg.AsyncConnection]) -> None:
        """Open sessions until the server refuses one."""
        refused = False
        while not refused:
            opened = await asyncio.gather(*(self._open() for _ in range(AT_ONCE)), return_exceptions=True)
            for one in opened:
                if isinstance(one, psycopg.AsyncConnection):
                    held.append(one)
                elif isinstance(one, psycopg.OperationalError):
                    refused = True
                else:
                    assert isinstance(one, BaseException)
                    raise one

    async def _open(self) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(
            self._target.dsn, autocommit=True, application_name=APPLICATION_NAME, connect_timeout=5
        )

    async def _ended_or_answers(self, server: Server) -> str:
        """After a full disk: a server that could not write its WAL panicked, and may not have come back by itself."""
        deadline = self._observer.clock() + self._patience.effect
        while self._observer.clock() < deadline:
            if not await asyncio.to_thread(server.running):
                await asyncio.shield(asyncio.to_thread(server.restart, "immediate"))
                return "was started again, and answers"
            if await self._observer.server_started() is not None:
                return "answers, and has space"
            await asyncio.sleep(TOP_UP)
        return "answers again"

    async def _answers_again(self, injection: Injection, how: str) -> None:
        async def look() -> str | None:
            return None if await self._observer.server_started() is None else f"the server {how}"

        sighting = await self._observer.see(look, self._patience.outage)
        if sighting is None:
            raise RuntimeError(f"the server did not answer {self._patience.outage:g} s after {injection!r}")
        injection.was_healed(sighting)

    def _server(self) -> Server:
        server = self._target.server
        assert server is not None, "refused before"
        return server


def _all_stopped(postmaster: int, backends: list[ProcessWatch]) -> str | None:
    """All stand still, as /proc has it; one that has ended meanwhile does too."""
    states = [ProcessWatch(postmaster).state(), *(backend.state() for backend in backends)]
    if any(state not in ("T", "Z", "X", None) for state in states):
        return None
    return f"postmaster {postmaster} and {len(backends)} of its processes are stopped (state T)"


async def _again_and_again(take: Callable[[], int]) -> None:
    while True:
        await asyncio.to_thread(take)
        await asyncio.sleep(TOP_UP)
