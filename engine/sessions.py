"""Connections lent to transaction steps, and the transaction that such a step cannot end by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import psycopg

from .errors import TransactionMisuse
from .link import Connector, close


class StepConnection(psycopg.AsyncConnection[Any]):
    """A psycopg connection which, while a transaction step has it, refuses to end the transaction."""

    lent = False
    pooled = False

    async def commit(self) -> None:
        self._refuse("commit()")
        await super().commit()

    async def rollback(self) -> None:
        self._refuse("rollback()")
        await super().rollback()

    async def close(self) -> None:
        self._refuse("close()")
        await super().close()

    def _refuse(self, what: str) -> None:
        if self.lent:
            raise TransactionMisuse(
                f"a transaction step called {what}: the engine commits its SQL together with the checkpoint; raise an"
                " exception to roll back, or use `async with tx.transaction()` for a savepoint"
            )


class Lent:
    """A connection inside BEGIN, for one transaction step."""

    def __init__(self, conn: StepConnection) -> None:
        self._conn = conn

    def __enter__(self) -> StepConnection:
        self._conn.lent = True
        return self._conn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._conn.lent = False
        if error is None and not self._conn.closed:
            status = self._conn.info.transaction_status
            if status == psycopg.pq.TransactionStatus.IDLE:
                raise TransactionMisuse(
                    "a transaction step ended its transaction with SQL of its own (COMMIT or ROLLBACK): what it did is"
                    " not tied to a checkpoint any more"
                )


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

        Behind a pooler a session cannot be found by its name for certain, so there the transaction holds a lock by which a
        successor finds it.
        """
        begin = f"begin isolation level {isolation} read write"
        if conn.pooled:
            first, second = self._lock_key
            begin += f"; select pg_advisory_xact_lock_shared({first + 1}, {second})"
        await conn.execute(begin.encode(), prepare=False)
