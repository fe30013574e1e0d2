"""The schema fits the code or says what to run; least rights are enough; any name for it works; versions roll."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from engine_room import opened, running, session, working

from duress.engine import Engine, migrations, sleep, step, transaction, workflow
from duress.engine.errors import ConfigurationError, DatabaseUnavailable, SchemaError
from duress.faults.postgres import Server


@step
async def note(value: str) -> str:
    return value


@transaction
async def enter(tx: "psycopg.AsyncConnection[object]") -> int:
    await tx.execute("select 1")
    return 1


@workflow(name="schema: all")
async def everything(value: str) -> list[object]:
    await sleep(0.01)
    found = await asyncio.gather(note(value), note("other"))
    return [*found, await enter()]


EVERYTHING = ["ü", "other", 1]


def test_an_empty_schema_says_what_to_run(database: str) -> None:
    async def run() -> None:
        async with Engine(database) as engine:
            for call in (lambda: engine.start("one", everything, "ü"), engine.work, engine.list):
                with pytest.raises(SchemaError, match=r"schema 'duress' is empty: run `duress engine migrate`"):
                    await call()
            assert [migration.version for migration in await engine.migrate()] == list(
                range(1, migrations.code_version() + 1)
            )
            assert await engine.migrate() == []
            assert await engine.list() == []

    asyncio.run(run())


def test_migrating_at_once_from_many_places_applies_each_once(database: str) -> None:
    async def run() -> None:
        async with Engine(database) as engine, session(database) as sql:
            applied = await asyncio.gather(*(engine.migrate() for _ in range(5)))
            assert sorted(len(one) for one in applied) == [0, 0, 0, 0, migrations.code_version()]
            assert await sql.one("select count(*) from duress.migration") == migrations.code_version()

    asyncio.run(run())


def test_an_older_schema_says_what_to_run_and_is_brought_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        now = migrations.migrations()
        following = replace(now[-1], version=now[-1].version + 1, name="next", text="create table {schema}.more ()")
        async with opened(database):
            pass
        with monkeypatch.context() as newer:
            newer.setattr(migrations, "migrations", lambda: (*now, following))
            async with Engine(database) as engine:
                with pytest.raises(
                    SchemaError, match=rf"has version {now[-1].version}, this code needs {following.version}"
                ):
                    await engine.list()
                assert [migration.name for migration in await engine.migrate()] == ["next"]
                assert await engine.list() == []
        async with running(database) as engine:  # the older code beside it: the migration only added
            assert await (await engine.start("one", everything, "ü")).result(timeout=9) == EVERYTHING

    asyncio.run(run())


def test_a_newer_schema_that_this_code_does_not_understand_is_refused(database: str) -> None:
    async def run() -> None:
        async with opened(database), session(database) as sql:
            await sql.all("insert into duress.migration (version, name, oldest_code) values (99, 'far', 98)")
            async with Engine(database) as engine:
                for call in (engine.list, engine.migrate, engine.work):
                    with pytest.raises(SchemaError, match=r"which needs code of version 98 or newer.*upgrade duress"):
                        await call()

    asyncio.run(run())


def test_a_failed_migration_leaves_nothing_behind(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        now = migrations.migrations()
        broken = replace(now[-1], version=now[-1].version + 1, name="broken", text="create table {schema}.x (); boom")
        monkeypatch.setattr(migrations, "migrations", lambda: (*now, broken))
        async with Engine(database) as engine, session(database) as sql:
            with pytest.raises(psycopg.errors.SyntaxError):
                await engine.migrate()
            assert await sql.one("select count(*) from pg_namespace where nspname = 'duress'") == 0

    asyncio.run(run())


def test_two_schemas_of_one_database_know_nothing_of_each_other(database: str) -> None:
    async def run() -> None:
        async with running(database, schema="one") as one, running(database, schema="two_2") as two:
            assert await (await one.start("same", everything, "ü")).result(timeout=9) == EVERYTHING
            assert await two.list() == []
            assert await (await two.start("same", everything, "x")).result(timeout=9) == ["x", "other", 1]
        with pytest.raises(ConfigurationError):
            Engine(database, schema='two"; drop')

    asyncio.run(run())


@pytest.fixture
def least(server: Server, database: str) -> Iterator[str]:
    """A role that may log in and no more."""
    name = f"least_{database.split('test_')[1].split('?')[0]}"
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute(f"create role {name} login".encode())
        yield name
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(f"drop owned by {name} cascade; drop role {name}".encode())


def test_a_running_role_needs_what_migrate_grants_and_may_do_no_more(server: Server, database: str, least: str) -> None:
    async def run() -> None:
        theirs = database.replace("duress@", f"{least}@")
        async with Engine(database) as owner, Engine(theirs) as engine:
            await owner.migrate()
            with pytest.raises(DatabaseUnavailable, match=r"lacks rights.*--role"):
                await engine.list()
            await owner.migrate(running_role=least)
            async with working(engine, name="first", lease=20.0):
                assert await (await engine.start("one", everything, "ü")).result(timeout=9) == EVERYTHING
                assert await engine.cancel("one") == "succeeded"
                assert len(await engine.list()) == 1
            # Taking over ends the sessions of another worker of the same role.
            task = asyncio.create_task(engine.work(name="second", lease=20.0))
            async with session(database) as sql:
                await sql.until("select count(*) from duress.worker where ended_at is null", is_=1)
                async with session(theirs) as their_sql:
                    async with their_sql.conn.transaction():  # no heartbeat comes in between
                        await their_sql.all("update duress.worker set lease_until = now() where ended_at is null")
                        assert await their_sql.one("select answer from duress.take_over_v1(2, 'lease', 20)") == "taken"
                    for forbidden in (
                        "create table duress.mine ()",
                        "delete from duress.checkpoint",
                        "update duress.checkpoint set value = '1'",
                        "delete from duress.workflow",
                        "insert into duress.migration values (9, 'x', 9)",
                        "drop function duress.wake_v1",
                    ):
                        with pytest.raises(psycopg.errors.InsufficientPrivilege):
                            await their_sql.all(forbidden)
            task.cancel()
            await asyncio.wait({task})

    asyncio.run(run())


def test_roles_with_hostile_defaults_change_nothing(database: str) -> None:
    async def run() -> None:
        async with session(database) as sql:
            name = await sql.one("select current_database()")
            for setting in (
                "default_transaction_isolation = 'serializable'",
                "default_transaction_read_only = on",
                "default_transaction_deferrable = on",
                "statement_timeout = '5s'",
                "lock_timeout = '5s'",
                "idle_session_timeout = '200ms'",
                "synchronous_commit = off",
                "search_path = ''",
                "row_security = off",
                "datestyle = 'German'",
                "timezone = 'Asia/Kathmandu'",
                "extra_float_digits = 0",
                "bytea_output = 'escape'",
            ):
                await sql.conn.execute(f"alter role duress in database {name} set {setting}".encode())
        async with running(database) as engine:
            handles = [await engine.start(f"w{n}", everything, "ü") for n in range(10)]
            for handle in handles:
                assert await handle.result(timeout=9) == EVERYTHING

    asyncio.run(run())
