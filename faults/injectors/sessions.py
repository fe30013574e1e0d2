"""The workers' sessions, as the server knows them: found by application_name, inside a transaction if possible."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from duress.faults.observe import APPLICATION_NAME

SQL = Path(__file__).with_name("sql")


@dataclass(frozen=True, slots=True)
class Session:
    pid: int
    backend_start: datetime
    in_transaction: bool


class Sessions:
    """Strikes at sessions. A server that does not answer now (stopped, in recovery) has none: ask again later.

    Keeps one session of its own from the first use until `close`: while waiting for a transaction it asks often.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._own: psycopg.AsyncConnection | None = None
        self._asking = asyncio.Lock()
        self._told: list[Session] = []  # to end, by us

    async def close(self) -> None:
        if self._own is not None:
            await self._own.close()
            self._own = None

    async def terminate(self, incarnation: int, *, in_transaction_only: bool = False) -> Session | None:
        """pg_terminate_backend on one session of this incarnation; None when it has none (in a transaction)."""
        sql = (SQL / "terminate_session.sql").read_bytes()
        values = {
            "application_name": application_name(incarnation),
            "in_transaction_only": in_transaction_only,
            "told_pids": [session.pid for session in self._told],
            "told_starts": [session.backend_start for session in self._told],
        }
        row = await self._ask(sql, values)
        if row is None or not row[3]:
            return None
        self._told.append(Session(*row[:3]))
        return self._told[-1]

    async def find(self, incarnation: int | None) -> int | None:
        """The process number of one session of this incarnation, or of any worker; None when there is none."""
        sql = (SQL / "find_session.sql").read_bytes()
        name = "duress:%" if incarnation is None else application_name(incarnation)
        row = await self._ask(sql, {"application_name": name})
        return None if row is None else row[0]

    async def cancel(self, name: str) -> bool:
        """pg_cancel_backend on one session of this name that runs a statement; False when none does."""
        row = await self._ask((SQL / "cancel_statement.sql").read_bytes(), {"application_name": name})
        return row is not None and bool(row[0])

    async def waits_for_table(self, name: str) -> bool:
        """Whether a session of this name waits for the lock of a table."""
        row = await self._ask((SQL / "waits_for_table.sql").read_bytes(), {"application_name": name})
        return row is not None and bool(row[0])

    async def _ask(self, sql: bytes, values: dict[str, object]) -> tuple[Any, ...] | None:
        async with self._asking:
            if self._own is not None:
                with contextlib.suppress(psycopg.OperationalError):
                    return await self._execute(self._own, sql, values)
                await self.close()  # it was lost in an outage, which may be over
            with contextlib.suppress(psycopg.OperationalError):
                self._own = await psycopg.AsyncConnection.connect(
                    self._dsn,
                    autocommit=True,
                    application_name=APPLICATION_NAME,
                    connect_timeout=2,
                    prepare_threshold=None,  # a transaction pooler may be in between
                )
                return await self._execute(self._own, sql, values)
            return None

    async def _execute(
        self, own: psycopg.AsyncConnection, sql: bytes, values: dict[str, object]
    ) -> tuple[Any, ...] | None:
        try:
            return await (await own.execute(sql, values)).fetchone()
        except psycopg.errors.InsufficientPrivilege as error:
            raise PermissionError(
                f"may not terminate the workers' sessions ({error.diag.message_primary}): connect as the role that the "
                "workers use, or grant pg_signal_backend to the one in the DSN"
            ) from None


def application_name(incarnation: int) -> str:
    """What the sessions of a worker's incarnation call themselves."""
    return f"duress:{incarnation}"
