"""One database for each run, cloned from a template that has the engine's schema and the scenario's tables.

Works on a server of ours and on a user's own alike: all it needs there is a role that may create databases.
"""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo

from duress.scenarios.final import Connection

CONNECT_TIMEOUT = 10  # seconds
TRIES = 5  # at cloning a template


class DatabaseUnusable(Exception):
    """The database server cannot be used for a run; the message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Databases:
    """Where runs get their databases. `prefix` keeps those of several campaigns apart on one server."""

    dsn: str  # an existing database, from which others are created
    prefix: str

    @classmethod
    def on(cls, dsn: str) -> "Databases":
        return cls(dsn, f"duress_{secrets.token_hex(4)}")

    def dsn_of(self, name: str) -> str:
        return make_conninfo(self.dsn, dbname=name)

    async def check(self) -> str:
        """The server's version; raises DatabaseUnusable if it does not answer, is too old, or lacks rights."""
        try:
            async with connect(self.dsn) as connection:
                row = await one_row(connection, RIGHTS)
        except psycopg.Error as error:
            reason = str(error).strip().replace("\n", " ")
            raise DatabaseUnusable(
                f"the database at {without_password(self.dsn)!r} does not answer: {reason}."
                " Is it running, and is the DSN right?"
            ) from error
        if int(row["number"]) < 150000:
            raise DatabaseUnusable(f"PostgreSQL {row['version']} is too old: 15 or newer is needed")
        if not row["creates"]:
            raise DatabaseUnusable(
                f"role {row['role']!r} may not create databases, and each run needs a fresh one:"
                f" alter role {sql.Identifier(str(row['role'])).as_string()} createdb"
            )
        return str(row["version"])

    @contextlib.asynccontextmanager
    async def template(self, build: Callable[[str], Awaitable[None]]) -> AsyncIterator[str]:
        """A database made by `build(dsn)`, for `fresh` to clone."""
        name = f"{self.prefix}_template"
        await self._execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        try:
            await build(self.dsn_of(name))
            yield name
        finally:
            await self._drop(name)

    @contextlib.asynccontextmanager
    async def fresh(self, name: str, template: str) -> AsyncIterator[str]:
        """The DSN of a new database that is a copy of `template`, dropped at the end, whoever is still connected."""
        name = f"{self.prefix}_{name}"
        statement = sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        for _ in range(TRIES):
            try:
                await self._execute(statement)
                break
            except psycopg.errors.ObjectInUse:  # a pooler, or somebody who watches the server, is connected to it
                await self._disconnect(template)
        else:
            raise DatabaseUnusable(f"database {template} cannot be cloned: somebody keeps connecting to it")
        try:
            yield self.dsn_of(name)
        finally:
            await self._drop(name)

    async def _disconnect(self, name: str) -> None:
        async with connect(self.dsn) as connection:
            await connection.execute(
                "select pg_terminate_backend(pid, 1000) from pg_stat_activity where datname = %s", (name,)
            )

    async def _drop(self, name: str) -> None:
        await self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    async def _execute(self, statement: sql.Composed) -> None:
        async with connect(self.dsn) as connection:
            await connection.execute(statement)


RIGHTS: LiteralString = """
    select current_setting('server_version_num')::int as number, current_setting('server_version') as version,
           rolname as role, rolsuper or rolcreatedb as creates
    from pg_roles where rolname = current_user
"""


@contextlib.asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[Connection]:
    """A session of the harness, in autocommit mode; without prepared statements, for there may be a pooler in between."""
    connection = await AsyncConnection.connect(
        dsn,
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT,
        application_name="duress:harness",
        prepare_threshold=None,
    )
    async with connection:
        yield connection


async def one_row(connection: Connection, query: LiteralString) -> dict[str, Any]:
    """The only row of a query, by column."""
    cursor = await connection.execute(query)
    row = await cursor.fetchone()
    assert row is not None and cursor.description is not None
    return dict(zip((column.name for column in cursor.description), row, strict=True))


async def clock_offset(connection: Connection, tries: int = 7) -> float:
    """The server's clock (seconds since 1970) minus CLOCK_MONOTONIC, by the quickest of some round trips."""
    readings = []
    for _ in range(tries):
        before = time.monotonic()
        row = await one_row(connection, "select extract(epoch from clock_timestamp())::double precision as clock")
        after = time.monotonic()
        readings.append((after - before, float(row["clock"]) - (before + after) / 2))
    return min(readings)[1]


def without_password(dsn: str) -> str:
    """The DSN as it may be shown."""
    try:
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        return "(not a DSN)"
    parts.pop("password", None)
    return make_conninfo("", **parts)
