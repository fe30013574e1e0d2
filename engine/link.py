"""Connections that survive: what psycopg raises, told apart, and calls that are sent again after a lost connection.

Only calls that recognise their own earlier success are sent through a `Link`; all of the engine's SQL functions do.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import psycopg
from psycopg import errors as pg

from .assertions import reachable

Row = tuple[Any, ...]
AnyConnection = psycopg.AsyncConnection[Any]

# The server goes, comes, is full, or is not (yet) the primary: the same call may succeed soon.
_PASSING = (
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.TooManyConnections,
    pg.ReadOnlySqlTransaction,
    pg.IdleInTransactionSessionTimeout,
)
# The server's disk is full, or fails, for now: of itself the statement is good.
_HINDERED = (pg.DiskFull, pg.IoError)
# The same if an operator cancelled a statement of ours. One of the user's may have run into a timeout of the user's.
_INTERRUPTED = (pg.QueryCanceled, *_HINDERED)
_CONTENTION = (pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable)


def lost(error: BaseException, conn: AnyConnection | None) -> bool:
    """Whether the connection or the server is the trouble, not the statement."""
    if isinstance(error, _PASSING):
        return True
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return conn is None or conn.closed or getattr(error, "sqlstate", None) is None
    return False


def contended(error: BaseException) -> bool:
    """Whether the transaction lost against another one and may simply be run again."""
    return isinstance(error, _CONTENTION)


def hindered(error: BaseException) -> bool:
    """Whether the server could not do what a statement asked for, whoever's it is, and may be able to soon."""
    return isinstance(error, _HINDERED)


def interrupted(error: BaseException) -> bool:
    """Whether a statement of the engine's own was stopped for reasons that are not its own, and may be sent again."""
    return isinstance(error, _INTERRUPTED)


@dataclass(slots=True)
class Connector:
    """How to reach the database, and what a session of ours depends on."""

    CONNECT_TIMEOUT: ClassVar[float] = 5.0

    dsn: str
    application_name: str
    connect_timeout: float = CONNECT_TIMEOUT
    client_check: str = "20ms"
    """How soon a session that is busy in a statement, or waits for a lock, notices that its client has gone."""
    spare: AnyConnection | None = field(default=None, init=False)
    """Made and not needed any more where it was; whoever connects next gets it."""

    async def connect(self, connection_class: type[AnyConnection] = psycopg.AsyncConnection) -> AnyConnection:
        """An autocommit session that trusts none of the role's defaults on which we depend."""
        spare = self.spare
        if isinstance(spare, connection_class):
            self.spare = None
            if not spare.closed:
                return spare
        async with asyncio.timeout(self.connect_timeout):
            conn = await connection_class.connect(self.dsn, autocommit=True, application_name=self.application_name)
        try:
            async with asyncio.timeout(self.connect_timeout):
                await prepare_session(conn, self.client_check)
        except BaseException:
            await close(conn)
            raise
        return conn

    async def close(self) -> None:
        """Close the spare connection, if there is one."""
        spare, self.spare = self.spare, None
        if spare is not None:
            await close(spare)


async def prepare_session(conn: AnyConnection, client_check: str) -> None:
    """Set what a session of ours depends on. Behind a transaction pooler, which keeps no session, nothing is set, and
    nothing is prepared on this connection from now on.
    """
    cursor = await conn.execute(_SESSION % (client_check.encode(), conn.info.backend_pid))
    if await cursor.fetchone() is None:
        conn.prepare_threshold = None


# A session must end soon after its client: else a killed worker's locks outlive it. synchronous_commit=off would
# acknowledge checkpoints that a crash may lose. A transaction pooler stands in between where the process that answers is
# not the one that greeted us.
_SESSION = b"""
select set_config('client_connection_check_interval', '%s', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('default_transaction_read_only', 'off', false),
       set_config('statement_timeout', '0', false),
       set_config('lock_timeout', '0', false),
       set_config('idle_in_transaction_session_timeout', '0', false),
       set_config('idle_session_timeout', '0', false),
       case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on', false) end
where pg_backend_pid() = %d
"""


async def close(conn: AnyConnection) -> None:
    """Close without waiting for a server that may not answer."""
    with contextlib.suppress(psycopg.Error, OSError):
        await conn.close()


class Link:
    """One connection, opened when needed, on which calls are made one at a time and sent again until they are answered."""

    def __init__(self, connector: Connector, entropy: random.Random, deadline: Callable[[], float]) -> None:
        self._connector = connector
        self._entropy = entropy
        self._deadline = deadline
        self._conn: AnyConnection | None = None
        self._cursor: psycopg.AsyncCursor[Row] | None = None
        self._busy = asyncio.Lock()
        self._closed = False
        self.pooled = False

    async def call(self, query: bytes, arguments: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and return its rows. Raises what the statement itself did wrong; outlasts lost connections."""
        async with self._busy:
            attempt = 0
            while True:
                if self._closed:
                    await self.drop()
                    raise asyncio.CancelledError("this worker or client is closed")
                try:
                    async with asyncio.timeout(self._deadline()):
                        cursor = self._cursor or await self.open()
                        await cursor.execute(query, arguments, prepare=not self.pooled)
                        return await cursor.fetchall()
                except (psycopg.Error, TimeoutError, OSError) as error:
                    again = contended(error) or interrupted(error)
                    if not again:
                        if isinstance(error, psycopg.Error) and not lost(error, self._conn):
                            raise
                        await self.drop()
                        reachable("a call was sent again on another connection")
                    attempt += 1
                    await asyncio.sleep(backoff(attempt, self._entropy))
                except BaseException:
                    await self.drop()  # a cancelled exchange leaves the connection in the middle of a reply
                    raise

    async def open(self) -> psycopg.AsyncCursor[Row]:
        """A cursor on a new connection; one serves all calls, for making them costs a tenth of a short one."""
        self._conn = conn = await self._connector.connect()
        self.pooled = conn.prepare_threshold is None
        self._cursor = conn.cursor()
        return self._cursor

    async def close(self) -> None:
        """Make no more calls. A call under way ends by itself: its connection must not be pulled from under psycopg, whose
        generators hold on to libpq's structure.
        """
        self._closed = True
        if not self._busy.locked():
            await self.drop()

    async def drop(self) -> None:
        """Give the connection up; only for whoever makes calls on it."""
        conn, self._conn, self._cursor = self._conn, None, None
        if conn is not None:
            await close(conn)


def backoff(attempt: int, entropy: random.Random) -> float:
    """Seconds before try number `attempt` + 1 at reaching the database: from 5 ms, doubling, at most half a second."""
    return min(0.5, 0.005 * 2.0 ** min(attempt - 1, 10)) * (0.5 + entropy.random())
