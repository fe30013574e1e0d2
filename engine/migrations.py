"""The schema: numbered SQL files, applied in order under a lock, each once.

Old and new workers run side by side while a release rolls out: a migration only adds (functions carry a version in their
names), unless it says `oldest_code`, the lowest schema version whose code still understands the result.
"""

import re
import zlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql

from .errors import ConfigurationError, SchemaError

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,50}")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file; `oldest_code` is the lowest code version that may still run once it is applied."""

    version: int
    name: str
    text: str
    oldest_code: int = 1

    def render(self, schema: str) -> str:
        """The SQL for this schema name."""
        return self.text.replace("{schema}", schema).replace("{lock_class}", str(lock_class(schema)))


def check_schema_name(schema: str) -> str:
    """Return the name, or raise ConfigurationError: it stands unquoted in the SQL files and in channel names."""
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"schema name {schema!r} will not do: use lower-case letters, digits and underscores, not starting with a digit"
        )
    return schema


def lock_class(schema: str) -> int:
    """First half of the two-integer key of a worker's session lock; the second is its incarnation."""
    return zlib.crc32(f"duress {schema}".encode()) % 0x7FFFFFF0


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations of this code, in order."""
    named = [(_FILE.fullmatch(file.name), file) for file in files(__package__).joinpath("sql").iterdir()]
    found = [Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")) for match, file in named if match]
    return tuple(sorted(found, key=lambda migration: migration.version))


def code_version() -> int:
    """The schema version that this code needs."""
    return migrations()[-1].version


async def migrate(
    conn: psycopg.AsyncConnection[Any], schema: str, *, running_role: str | None = None
) -> list[Migration]:
    """Bring the schema to this code's version; return what was applied.

    `running_role` is granted what workers and clients need, and no more. Raises SchemaError if the schema is newer than
    the code, psycopg's errors if rights are lacking. All migrations of one call are applied or none.
    """
    check_schema_name(schema)
    async with conn.transaction():
        await conn.execute("select pg_advisory_xact_lock(%s, 0)", [lock_class(schema)])
        await conn.execute(f"create schema if not exists {schema}".encode())
        await conn.execute(
            f"""create table if not exists {schema}.migration (
                version integer primary key,
                name text not null,
                oldest_code integer not null,
                applied_at timestamptz not null default clock_timestamp()
            )""".encode()
        )
        current = await _applied(conn, schema)
        _refuse_newer(schema, *current)
        applied = [migration for migration in migrations() if migration.version > current[0]]
        for migration in applied:
            await conn.execute(migration.render(schema).encode())
            await conn.execute(
                f"insert into {schema}.migration (version, name, oldest_code) values (%s, %s, %s)".encode(),
                [migration.version, migration.name, migration.oldest_code],
            )
        if running_role is not None:
            await _grant(conn, schema, running_role)
    return applied


async def check(conn: psycopg.AsyncConnection[Any], schema: str) -> None:
    """Raise SchemaError unless this code can work with the schema as it is."""
    try:
        version, oldest_code = await _applied(conn, schema)
    except psycopg.errors.UndefinedTable:
        version, oldest_code = 0, 0
    if version < code_version():
        what = "is empty" if version == 0 else f"has version {version}, this code needs {code_version()}"
        raise SchemaError(f"schema {schema!r} {what}: run `duress engine migrate` (or `await engine.migrate()`)")
    _refuse_newer(schema, version, oldest_code)


def _refuse_newer(schema: str, version: int, oldest_code: int) -> None:
    if version > code_version() and oldest_code > code_version():
        raise SchemaError(
            f"schema {schema!r} has version {version}, which needs code of version {oldest_code} or newer; this code knows"
            f" {code_version()}: upgrade duress on this machine"
        )


async def _applied(conn: psycopg.AsyncConnection[Any], schema: str) -> tuple[int, int]:
    cursor = await conn.execute(
        f"select coalesce(max(version), 0), coalesce(max(oldest_code), 0) from {schema}.migration".encode()
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]


async def _grant(conn: psycopg.AsyncConnection[Any], schema: str, role: str) -> None:
    names = {"schema": sql.Identifier(schema), "role": sql.Identifier(role)}
    for statement in (
        "grant usage on schema {schema} to {role}",
        "grant select on all tables in schema {schema} to {role}",
        "grant insert, update, delete on {schema}.live, {schema}.queue, {schema}.worker to {role}",
        "grant insert, update on {schema}.workflow to {role}",
        "grant insert on {schema}.checkpoint to {role}",
        "grant usage on all sequences in schema {schema} to {role}",
        "grant execute on all functions in schema {schema} to {role}",
    ):
        await conn.execute(sql.SQL(statement).format(**names))
