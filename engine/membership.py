"""Being one of the living workers: a lease by heartbeat, a session lock that tells of our death at once, and the watch over
one neighbour in the ring.

One connection holds the lock, listens and sends the heartbeat; a second one waits for the neighbour's lock. Behind a
transaction pooler there are neither session locks nor notifications: the lease decides, and work is found by polling.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import psycopg

from . import observer
from .assertions import always, reachable, sometimes
from .errors import WorkerNameTaken
from .link import AnyConnection, Connector, backoff, close
from .migrations import lock_class
from .runtime import Runtime, log

# Seconds between looks at the sessions of a worker that seems to have been killed: at first its backends are just ending.
_SESSIONS_SOON, _SESSIONS_LATER, _SOON = 0.001, 0.1, 50


class Membership:
    """One incarnation's life in the ring."""

    def __init__(self, connector: Connector, schema: str) -> None:
        self.connector = connector
        self._schema = schema
        self._conn: AnyConnection | None = None
        self._pooled = False
        self._locked = True  # this connection holds our lock
        self._peer: int | None = None
        self._peer_changed = asyncio.Event()
        self._looks = 0  # at the sessions of a neighbour that seems to have been killed
        self._look = False  # the ring changed: renew at once, to learn the new neighbour
        self._taking: set[int] = set()
        # Until then a free lock proves nothing: we lost connections ourselves, so the neighbour may be reconnecting too.
        self._doubtful_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_work: Callable[[], None] = lambda: None
        self.on_taken: Callable[[], None] = lambda: None
        self.room: Callable[[], int] = lambda: 0
        self.on_fenced: Callable[[int], None] = lambda number: None

    async def join(
        self, name: str | None, lease: float, takeovers: int, sent: Callable[[], float]
    ) -> tuple[int, float, float]:
        """Become a member: our incarnation, when the statement was sent (loop time), and the lease's end (database time).

        Raises WorkerNameTaken if a living worker has the name.
        """
        conn = self._conn = await self.connector.connect()
        self._pooled = conn.prepare_threshold is None
        await self._listen(conn)
        for patience in (0.02, 0.1, 0.3, 0.6, None):
            at = sent()
            cursor = await conn.execute(
                f"select * from {self._schema}.join_v1(%s, %s, %s, %s)".encode(),
                [name, lease, not self._pooled, takeovers],
            )
            incarnation, until, taken_by = (await cursor.fetchall())[0]
            if incarnation is not None or patience is None:
                break
            reachable("a worker waited for the end of its namesake")
            await asyncio.sleep(patience)  # the sessions of a worker that was killed just now are still ending
        if incarnation is None:
            raise WorkerNameTaken(
                f"a living worker (incarnation {taken_by}) has the name {name!r}: choose another, or wait until its lease"
                " is over"
            )
        return incarnation, at, until

    async def close(self) -> None:
        """Let go of everything; `keep` and `watch` must have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._conn is not None:
            await close(self._conn)

    async def keep(self, runtime: Runtime) -> None:
        """Renew the lease for ever; returns when the database says that this incarnation is dead."""
        failures = 0
        while True:
            try:
                conn = self._conn
                if conn is None or conn.closed:
                    conn = self._conn = await self._reconnect(runtime)
                wait = await self._renew(runtime, conn)
                if wait is None:
                    return
                failures = 0
                if self._pooled:
                    await asyncio.sleep(wait)
                else:
                    await self._hear(conn, wait)
            except (psycopg.Error, TimeoutError, OSError) as error:
                log.warning("worker %s: heartbeat failed: %s", runtime.worker, error)
                if self._conn is not None:
                    await close(self._conn)
                self._doubt(runtime)
                failures += 1
                await asyncio.sleep(backoff(failures, runtime.entropy))

    async def _listen(self, conn: AnyConnection) -> None:
        if not self._pooled:
            await conn.execute(f'listen "{self._schema}.work"'.encode())

    async def _reconnect(self, runtime: Runtime) -> AnyConnection:
        conn = await self.connector.connect()
        try:
            await self._listen(conn)
        except BaseException:
            await close(conn)
            raise
        self._locked = self._pooled
        return conn

    async def _renew(self, runtime: Runtime, conn: AnyConnection) -> float | None:
        """One heartbeat; seconds until the next is due, None if we are dead."""
        loop = asyncio.get_running_loop()
        options = runtime.options
        sent = loop.time()
        async with asyncio.timeout(options.lease):
            cursor = await conn.execute(
                f"select * from {self._schema}.renew_v1(%s, %s)".encode(),
                [runtime.incarnation, options.lease],
                prepare=not self._pooled,
            )
            rows = await cursor.fetchall()
        if not rows:
            reachable("a worker learned that it had been declared dead")
            return None
        until, peer, expired, next_in = rows[0]
        runtime.lease.renewed(sent + options.lease)
        if not self._locked:
            reachable("a worker fetched its lock again")
            # The heartbeat came first: our old session holds the lock for as long as the server believes in it.
            key = [lock_class(self._schema), runtime.incarnation]
            await self._fetch(conn, _END_OLD_SESSION, key)
            self._locked = await self._fetch(conn, "select pg_try_advisory_lock(%s::integer, %s::integer)", key)
        await _wait(runtime.observe(observer.WORKER_RENEWED, {"lease_until": until}))
        if peer != self._peer:
            self._peer = peer
            self._peer_changed.set()
        for victim in expired or ():
            self._spawn(self._take_over(runtime, victim))
        due = min(options.heartbeat, next_in + 0.001) if next_in is not None else options.heartbeat
        return max(0.001, sent + due - loop.time())

    async def _hear(self, conn: AnyConnection, seconds: float) -> None:
        """Take in notifications until the next heartbeat."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._look and (left := until - loop.time()) > 0:
            async for notification in conn.notifies(timeout=left, stop_after=1):
                word, _, rest = notification.payload.partition(" ")
                if word == "work":
                    self.on_work()
                elif word == "ring":
                    self._look = True
                elif word == "fenced":
                    self.on_fenced(int(rest))
        self._look = False

    async def watch(self, runtime: Runtime) -> None:
        """Wait for the neighbour's lock, for ever; take over when it is free."""
        if self._pooled:
            await asyncio.Event().wait()  # nothing to watch, and a watch does not end
        conn: AnyConnection | None = None
        failures = 0
        try:
            while True:
                try:
                    if conn is None or conn.closed:
                        conn = await self._watching(runtime).connect()
                        await self._declare_dead(runtime, conn, 0, "lock")  # no incarnation 0: has the function ready
                    await self._watch_peer(runtime, conn)
                    failures = 0
                except psycopg.ProgrammingError:
                    raise
                except (psycopg.Error, TimeoutError, OSError):
                    if conn is not None:
                        await close(conn)
                    self._doubt(runtime)
                    failures += 1
                    await asyncio.sleep(backoff(failures, runtime.entropy))
        finally:
            if conn is not None:
                await close(conn)

    def _watching(self, runtime: Runtime) -> Connector:
        """The session that waits for a lock has a name of its own: it writes nothing for any workflow, and of all sessions
        of a killed worker it is the last to end, since it looks for its client only now and then. Until then it may get the
        lock that it waits for, and has passed it on as soon as it answers.
        """
        return replace(self.connector, application_name=f"duress-watch:{runtime.incarnation}", client_check="1s")

    async def _watch_peer(self, runtime: Runtime, conn: AnyConnection) -> None:
        """Wait for the lock of whoever is our neighbour now; act if it is free."""
        peer = self._peer
        if peer is None:
            self._peer_changed.clear()
            await self._peer_changed.wait()
        elif not await self._wait_for_lock(conn, peer) or peer != self._peer:
            self._looks = 0
        elif asyncio.get_running_loop().time() < self._doubtful_until:
            await asyncio.sleep(_SESSIONS_LATER)
        else:
            self._peer, answer = await self._declare_dead(runtime, conn, peer, "lock")
            sometimes(answer == "sessions", "a neighbour's lock was free while it had sessions")
            sometimes(answer == "ended", "somebody else was faster to take a neighbour over")
            if answer == "sessions":  # its backends are just ending, or it has lost only one of them
                self._looks += 1
                await asyncio.sleep(_SESSIONS_SOON if self._looks <= _SOON else _SESSIONS_LATER)
                return
            self._looks = 0
            if answer == "ended":
                self._peer = await self._fetch(conn, f"select {self._schema}.peer_v1(%s)", [runtime.incarnation])

    def _doubt(self, runtime: Runtime) -> None:
        self._doubtful_until = asyncio.get_running_loop().time() + runtime.options.lease / 2

    async def _wait_for_lock(self, conn: AnyConnection, peer: int) -> bool:
        """Whether the peer's lock became free; False after a while, or at once when there is another peer to watch."""
        self._peer_changed.clear()
        waiting = asyncio.ensure_future(self._fetch(conn, f"select {self._schema}.watch_v1(%s)", [peer]))
        changed = asyncio.ensure_future(self._peer_changed.wait())
        try:
            await asyncio.wait({waiting, changed}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await conn.cancel_safe(timeout=1.0)
            return bool(await waiting)
        finally:
            changed.cancel()
            waiting.cancel()
            await asyncio.gather(changed, waiting, return_exceptions=True)  # before anybody closes the connection

    @staticmethod
    async def _fetch(conn: AnyConnection, query: str, arguments: list[Any]) -> Any:
        cursor = await conn.execute(query.encode(), arguments, prepare=True)
        return (await cursor.fetchall())[0][0]

    async def _take_over(self, runtime: Runtime, victim: int) -> None:
        """End what a worker with an expired lease holds; beside the heartbeat, which must not wait for this."""
        if victim in self._taking:
            return
        self._taking.add(victim)
        conn: AnyConnection | None = None
        try:
            conn = await self.connector.connect()
            await self._declare_dead(runtime, conn, victim, "lease")
        except (psycopg.Error, TimeoutError, OSError) as error:
            log.warning(
                "worker %s: taking over incarnation %d failed, to be tried again: %s", runtime.worker, victim, error
            )
        finally:
            self._taking.discard(victim)
            if conn is not None:
                await close(conn)

    async def _declare_dead(
        self, runtime: Runtime, conn: AnyConnection, victim: int, reason: str
    ) -> tuple[int | None, str]:
        """Declare a worker dead, if the database agrees, and by the lock those before it in the ring that died with it.

        Their workflows are then there to be claimed. Returns where it ended, and how; see take_over_v1.
        """
        taker = runtime.incarnation if reason == "lock" else None
        cursor = await conn.execute(
            f"select * from {self._schema}.take_over_v1(%s, %s, %s, %s, %s)".encode(),
            [victim, reason, runtime.options.takeovers, self.room(), taker],
            prepare=not self._pooled,
        )
        answers = await cursor.fetchall()
        taken = [row for row in answers if row[1] == "taken"]
        sometimes(taken and reason == "lock", "a worker was taken over by its lock")
        sometimes(taken and reason == "lease", "a worker was taken over by its lease")
        sometimes(len(taken) > 1, "two workers were taken over at once")
        always(all(row[0] != runtime.incarnation for row in taken), "no worker takes itself over")
        if taken:
            self.on_taken()
        for number, _, workflows, dead, at in taken:
            log.warning(
                "worker %s took over incarnation %d by %s: %d workflows", runtime.worker, number, reason, workflows
            )
            if dead:
                log.error("%d workflows are dead after %d lost workers each", dead, runtime.options.takeovers)
            facts: observer.Facts = {"victim": number, "reason": reason, "workflows": workflows, "at": at}
            await _wait(runtime.observe(observer.TOOK_OVER, facts))
        return answers[-1][0], answers[-1][1]

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine, name="duress takeover")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_END_OLD_SESSION = """
    select count(pg_terminate_backend(l.pid)) from pg_locks l
    where l.locktype = 'advisory' and l.classid = %s::bigint::oid and l.objid = %s::bigint::oid and l.objsubid = 2 and l.granted
      and l.database = (select d.oid from pg_database d where d.datname = current_database()) and l.pid <> pg_backend_pid()"""


async def _wait(announced: Awaitable[None] | None) -> None:
    if announced is not None:
        await announced
