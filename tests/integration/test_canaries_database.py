"""A canary of SQL makes the schema anew, broken as it says; one of Python leaves it alone."""

import asyncio
from typing import Any

import psycopg

from duress.engine import Engine, migrations
from duress.scenarios.canaries import apply_to_database

FINISH = "select prosrc from pg_proc where proname = 'finish_v1' and pronamespace = 'lab'::regnamespace"
KEYS = "select count(*) from pg_constraint where conrelid = 'lab.workflow'::regclass and contype = 'u'"


async def broken_by(dsn: str, canary: str) -> psycopg.AsyncConnection[Any]:
    async with Engine(dsn, schema="lab") as engine:
        await engine.migrate()
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await apply_to_database(connection, canary, "lab")
    return connection


async def answer(connection: psycopg.AsyncConnection[Any], query: str) -> Any:
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


def test_a_function_is_replaced(database: str) -> None:
    async def check() -> None:
        async with await broken_by(database, "finish-without-epoch") as connection:
            assert "where l.number = p_number for update" in await answer(connection, FINISH)
            assert await answer(connection, KEYS) == 1
            async with Engine(database, schema="lab"):  # the schema is whole, as far as the engine can see
                pass

    asyncio.run(check())


def test_a_table_is_changed(database: str) -> None:
    async def check() -> None:
        async with await broken_by(database, "start-without-key") as connection:
            assert await answer(connection, KEYS) == 0

    asyncio.run(check())


def test_a_canary_of_python_leaves_the_database_alone(database: str) -> None:
    async def check() -> None:
        async with await broken_by(database, "key-of-the-epoch") as connection:
            assert "and l.epoch = p_epoch for update" in await answer(connection, FINISH)

    asyncio.run(check())


def test_migrations_are_sound_again_afterwards(database: str) -> None:
    async def check() -> None:
        before = migrations.migrations()
        await (await broken_by(database, "finish-without-epoch")).close()
        assert migrations.migrations() is before

    asyncio.run(check())
