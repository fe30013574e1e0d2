"""Connections lent to transaction steps, and the transaction that such a step cannot end by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

from .errors import TransactionMisuse
from .link import Connector, close

T = TypeVar("T")


class StepConnection(psycopg.AsyncConnection[Any]):
    """A psycopg connection which, while a transaction step has it, refuses to end the transaction."""

    lent = False
    pooled = False
    error: psycopg.Error | None = None
    """The last error of a statement, whatever the step made of it, but for those that only say that there was one."""

    async def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        try:
            return await super().wait(gen, *args, **kwargs)
        except psycopg.errors.InFailedSqlTransaction:
            raise
        except psycopg.Error as error:
            self.error = error
            raise

    async def commit(self) -> None:
        self._refuse("commit()")
        await super().commit()

    async def rollback(self) -> None:
        self._refuse("rollback()")
        await super().rollback()

    async def close(self) -> None:
        self._refuse("close()")
        await super().close()

    def culprit(self) -> psycopg.Error | None:
        """What broke the open transaction, if it is broken."""
        if self.closed:
            return self.error or psycopg.OperationalError("the connection is lost")
        if self.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
            return self.error
        return None

    def _refuse(self, what: str) -> None:
        if self.lent:
            raise TransactionMisuse(
                f"a transaction step called {what}: the engine commits its SQL together with the checkpoint; raise an"
                " exception to roll back, or use `async with tx.transaction()` for a savepoint"
            )


class Lent:
    """A connection inside BEGIN, for one transaction step; what the step sets on the object is undone."""

    def __init__(self, conn: StepConnection) -> None:
        self._conn = conn
        self._manners = (conn.row_factory, conn.cursor_factory, conn.prepare_threshold, conn.prepared_max)

    def __enter__(self) -> StepConnection:
        self._conn.lent = True
        return self._conn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        conn = self._conn
        conn.lent = False
        conn.row_factory, conn.cursor_factory, conn.prepare_threshold, conn.prepared_max = self._manners


class Sessions:
    """Connections for transaction steps: at most `most`, made when needed, kept while they are whole.

    Not psycopg_pool's: after a failed attempt that one waits a second or more before the next, which would be most of the
    time that recovery takes here. Here the step that needs the connection tries, and backs off by itself.
    """

    def __init__(self, connector: Connector, most: int, lock_key: tuple[int, int]) -> None:
        self._connector = connector
        self._lock_key = lock_key
        self._free = asyncio.Semaphore(most)
        self._idle: list[StepConnection] = []
        self._closed = False

    @contextlib.asynccontextmanager
    async def lend(self) -> AsyncIterator[StepConnection]:
        """A connection outside any transaction. It is kept only if it comes back like that."""
        async with self._free:
            conn = self._idle.pop() if self._idle else await self._connect()
            try:
                yield conn
            finally:
                if (
                    not self._closed
                    and not conn.closed
                    and conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
                ):
                    self._idle.append(conn)
                else:
                    await close(conn)

    async def _connect(self) -> StepConnection:
        conn = await self._connector.connect(StepConnection)
        assert isinstance(conn, StepConnection)
        conn.pooled = conn.prepare_threshold is None
        return conn

    async def close(self) -> None:
        """Close all; those that are lent when they come back."""
        self._closed = True
        while self._idle:
            await close(self._idle.pop())

    async def begin(self, conn: StepConnection, isolation: str) -> None:
        """Open the transaction, with the isolation that the step asks for and whatever the role's defaults say.

        `deferrable` means nothing here but that it is our transaction: see IS_OURS. Behind a pooler a session cannot be
        found by its name for certain, so there it holds a lock by which a successor finds it.
        """
        conn.error = None
        begin = f"begin isolation level {isolation} read write deferrable"
        if conn.pooled:
            first, second = self._lock_key
            begin += f"; select pg_advisory_xact_lock_shared({first + 1}, {second})"
        await conn.execute(begin.encode(), prepare=False)


IS_OURS = "current_setting('transaction_deferrable') = 'on'"
"""Whether the open transaction is still the one that we began: `commit; begin` as SQL puts another one in its place."""

ENDED = (
    "a transaction step ended its transaction with SQL of its own (COMMIT or ROLLBACK): what it did is not tied to a"
    " checkpoint any more; raise an exception to roll back, or use `async with tx.transaction()` for a savepoint"
)
