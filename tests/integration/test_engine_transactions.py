"""A transaction step's SQL and its checkpoint commit together or not at all, exactly once, whatever happens on the way."""

import asyncio
import contextlib
from typing import Any

import psycopg
import pytest
from engine_room import Sql, Watch, opened, running, session, working
from psycopg.rows import dict_row

from duress.engine import Engine, Retry, transaction, workflow
from duress.engine.errors import StepFailed, WorkflowFailed

LEDGER = """
create table ledger (entry text, at timestamptz default clock_timestamp());
create table account (name text primary key, cents int not null check (cents >= 0));
insert into account values ('a', 100), ('b', 100)"""

attempts: list[int] = []
arrivals: list[int] = []
gates: dict[str, asyncio.Event] = {}
dsn = ""


@pytest.fixture(autouse=True)
def _forget(database: str) -> None:
    global dsn
    attempts.clear()
    arrivals.clear()
    gates.clear()
    dsn = database


async def write(tx: Any, entry: str) -> None:
    await tx.execute("insert into ledger values (%s)", [entry])


async def ledger(sql: Sql) -> list[str]:
    return [row[0] for row in await sql.all("select entry from ledger order by at")]


@transaction
async def enter(tx: Any, entry: str) -> str:
    attempts.append(1)
    await write(tx, entry)
    return entry


@transaction
async def ends(tx: Any, how: str) -> str:
    await write(tx, how)
    match how:
        case "commit()":
            await tx.commit()
        case "rollback()":
            await tx.rollback()
        case "close()":
            await tx.close()
        case "with":
            async with tx:
                pass
        case "autocommit":
            await tx.set_autocommit(False)
        case "two-phase":
            await tx.tpc_begin("x")
        case "isolation":
            await tx.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
        case _:
            await tx.execute(how)
    return how


@workflow(name="transactions: run")
async def runs(how: str) -> str:
    return await ends(how)


WAYS = ["commit()", "rollback()", "close()", "with", "autocommit", "two-phase", "isolation"]
STATEMENTS = ["commit", "rollback", "commit; begin", "rollback; begin", "end; start transaction", "abort"]


@pytest.mark.parametrize("how", [*WAYS, *STATEMENTS])
def test_a_step_cannot_end_its_transaction(database: str, how: str) -> None:
    async def run() -> None:
        async with session(database) as sql, running(database, work={"transactions": 1}) as engine:
            await sql.conn.execute(LEDGER.encode())
            with pytest.raises(WorkflowFailed) as caught:
                await (await engine.start("one", runs, how)).result(timeout=9)
            expected = "ProgrammingError" if how in WAYS[4:] else "TransactionMisuse"
            assert caught.value.type == expected, caught.value
            if ("commit" not in how and "end" not in how) or "()" in how:
                assert await ledger(sql) == []
            # The connection is whole, or another one takes its place.
            assert await (await engine.start("next", one_entry, "next")).result(timeout=9) == "next"
            assert (await ledger(sql))[-1:] == ["next"]

    asyncio.run(run())


@workflow(name="transactions: one")
async def one_entry(entry: str) -> str:
    return await enter(entry)


@transaction
async def savepoints(tx: Any) -> list[int]:
    async with tx.transaction():
        await write(tx, "kept")
    with contextlib.suppress(psycopg.errors.CheckViolation):
        async with tx.transaction():
            await write(tx, "undone")
            await tx.execute("update account set cents = -1")
    tx.row_factory = dict_row
    tx.prepare_threshold = None
    row = await (await tx.execute("select 1 as one")).fetchone()
    return [row["one"]]


@transaction
async def plain_rows(tx: Any) -> list[int]:
    return list(await (await tx.execute("select 2 as two")).fetchone())


@workflow(name="transactions: manners")
async def manners() -> list[int]:
    return await savepoints() + await plain_rows()


def test_savepoints_work_and_what_a_step_sets_on_its_connection_does_not_stay(database: str) -> None:
    async def run() -> None:
        async with session(database) as sql, running(database, work={"transactions": 1}) as engine:
            await sql.conn.execute(LEDGER.encode())
            assert await (await engine.start("one", manners)).result(timeout=9) == [1, 2]
            assert await ledger(sql) == ["kept"]

    asyncio.run(run())


@transaction(retry=Retry(attempts=2, initial=0))
async def fails(tx: Any, how: str) -> str:
    attempts.append(1)
    await write(tx, how)
    match how:
        case "raise":
            raise ValueError("no")
        case "check":
            await tx.execute("update account set cents = -1")
        case "swallowed":
            with contextlib.suppress(psycopg.Error):
                await tx.execute("update account set cents = -1")
        case "result":
            return object()  # type: ignore[return-value]
        case "other database":
            raise psycopg.OperationalError("the other database is down")
        case "deferred":
            await tx.execute("create temp table t (x int unique deferrable initially deferred) on commit drop")
            await tx.execute("insert into t values (1), (1)")
    return how


@workflow(name="transactions: fail")
async def failing(how: str) -> list[str]:
    try:
        await fails(how)
    except StepFailed as error:
        return [error.type, error.message]
    return []


@pytest.mark.parametrize(
    ("how", "type_"),
    [
        ("raise", "ValueError"),
        ("check", "CheckViolation"),
        ("swallowed", "CheckViolation"),
        ("result", "ValueNotSerializable"),
        ("other database", "OperationalError"),
        ("deferred", "UniqueViolation"),
    ],
)
def test_a_failure_is_recorded_after_its_attempts_and_leaves_no_effect(database: str, how: str, type_: str) -> None:
    async def run() -> None:
        async with session(database) as sql, running(database) as engine:
            await sql.conn.execute(LEDGER.encode())
            found = await (await engine.start("one", failing, how)).result(timeout=9)
            assert found[0] == type_
            assert len(attempts) == 2
            assert await ledger(sql) == []
            assert await sql.all("select step, failed, kind from duress.checkpoint") == [("1", True, "transaction")]

    asyncio.run(run())


@transaction(timeout=0.05)
async def too_slow(tx: Any) -> None:
    await write(tx, "slow")
    await tx.execute("select pg_sleep(9)")


@workflow(name="transactions: slow")
async def slow() -> None:
    await too_slow()


def test_a_timeout_cancels_the_statement_and_is_a_failure_with_a_name(database: str) -> None:
    async def run() -> None:
        async with session(database) as sql, running(database) as engine:
            await sql.conn.execute(LEDGER.encode())
            with pytest.raises(
                WorkflowFailed, match=r"StepTimeout: transaction 'too_slow' took longer than its 0.05 s"
            ):
                await (await engine.start("one", slow)).result(timeout=9)
            assert await ledger(sql) == []

    asyncio.run(run())


@transaction(isolation="serializable")
async def move(tx: Any, first: str, second: str, wrapped: bool) -> int:
    """Reads one account and writes the other; two of them at once cannot both commit."""
    attempts.append(1)
    try:
        row = await (await tx.execute("select cents from account where name = %s", [first])).fetchone()
        if len(attempts) <= 2:
            await meet()
        await tx.execute("update account set cents = %s where name = %s", [row[0] + 1, second])
    except psycopg.Error as error:
        if wrapped:
            raise RuntimeError("as a library would wrap it") from error
        raise
    return int(row[0])


@transaction
async def lock_both(tx: Any, first: str, second: str, wrapped: bool) -> int:
    attempts.append(1)
    try:
        await tx.execute("update account set cents = cents + 1 where name = %s", [first])
        if len(attempts) <= 2:
            await meet()
        await tx.execute("update account set cents = cents + 1 where name = %s", [second])
    except psycopg.Error as error:
        if wrapped:
            raise RuntimeError("as a library would wrap it") from error
        raise
    return 0


async def meet() -> None:
    """Both sessions have done their first statement: who is here, not who has begun, is counted."""
    arrivals.append(1)
    if len(arrivals) == 2:
        gates["met"].set()
    async with asyncio.timeout(9):
        await gates["met"].wait()


@workflow(name="transactions: contend")
async def contend(first: str, second: str, deadlock: bool, wrapped: bool) -> int:
    return await (lock_both if deadlock else move)(first, second, wrapped)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("deadlock", [False, True])
def test_serialization_failures_and_deadlocks_are_no_failures(database: str, deadlock: bool, wrapped: bool) -> None:
    async def run() -> None:
        gates["met"] = asyncio.Event()
        async with session(database) as sql, running(database) as engine:
            await sql.conn.execute(LEDGER.encode())
            await sql.conn.execute(b"alter system set deadlock_timeout = '10ms'")
            await sql.conn.execute(b"select pg_reload_conf()")
            one = await engine.start("one", contend, "a", "b", deadlock, wrapped)
            two = await engine.start("two", contend, "b", "a", deadlock, wrapped)
            await one.result(timeout=9)
            await two.result(timeout=9)
            assert len(attempts) > 2  # one of them lost
            cents = dict(await sql.all("select name, cents from account"))
            assert cents == ({"a": 102, "b": 102} if deadlock else {"a": cents["a"], "b": cents["b"]})
            if not deadlock:
                assert sorted(cents.values()) == [101, 102]  # as if one came after the other
            assert await sql.all("select distinct failed from duress.checkpoint") == [(False,)]
            await sql.conn.execute(b"alter system reset deadlock_timeout")
            await sql.conn.execute(b"select pg_reload_conf()")

    asyncio.run(run())


@transaction
async def always_loses(tx: Any) -> None:
    attempts.append(1)
    await tx.execute("do $$ begin raise serialization_failure; end $$")


@workflow(name="transactions: loses")
async def loses() -> None:
    await always_loses()


def test_losing_for_ever_is_a_failure_that_is_recorded(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duress.engine.transactions._MOST_CONTENTION", 5)

    async def run() -> None:
        async with session(database) as sql, running(database) as engine:
            with pytest.raises(WorkflowFailed, match=r"TransactionContended: .* lost against others 5 times"):
                await (await engine.start("one", loses)).result(timeout=9)
            assert await sql.one("select failed from duress.checkpoint") is True
            assert len(attempts) == 5

    asyncio.run(run())


@transaction
async def short_of_space(tx: Any, code: str, deferred: bool) -> int:
    """Finds no room for what it writes, three times; or (`deferred`) only when it commits."""
    attempts.append(1)
    await write(tx, code)
    if len(attempts) <= 3:
        when = "before insert" if not deferred else "after insert"
        kind = "trigger" if not deferred else "constraint trigger"
        await tx.execute(
            f"""
            create function full_disk() returns trigger language plpgsql
                as $$ begin raise 'no room in base/5/16384' using errcode = '{code}'; end $$;
            create {kind} full_disk {when} on ledger {"deferrable initially deferred" if deferred else ""}
                for each row execute function full_disk();
            insert into ledger values ('more')
            """.encode()
        )
    return len(attempts)


@workflow(name="transactions: space")
async def space(code: str, deferred: bool) -> int:
    return await short_of_space(code, deferred)


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("code", ["53100", "58030"])
def test_a_full_or_failing_disk_is_no_failure_of_the_step(database: str, code: str, deferred: bool) -> None:
    async def run() -> None:
        async with session(database) as sql, running(database) as engine:
            await sql.all(LEDGER)
            assert await (await engine.start("one", space, code, deferred)).result(timeout=9) == 4
            assert await ledger(sql) == [code]

    asyncio.run(run())


@transaction(isolation="repeatable read")
async def repeatable(tx: Any) -> list[str]:
    return await settings(tx)


@transaction(isolation="serializable")
async def serializable(tx: Any) -> list[str]:
    return await settings(tx)


@transaction
async def committed(tx: Any) -> list[str]:
    return await settings(tx)


async def settings(tx: Any) -> list[str]:
    found = []
    for name in ("transaction_isolation", "transaction_read_only", "synchronous_commit", "statement_timeout"):
        found.append((await (await tx.execute(f"show {name}")).fetchone())[0])  # noqa: PERF401
    return found


@workflow(name="transactions: settings")
async def all_settings() -> list[list[str]]:
    return [await committed(), await repeatable(), await serializable()]


def test_a_step_has_the_isolation_that_it_asks_for_whatever_the_roles_defaults(database: str) -> None:
    async def run() -> None:
        async with opened(database), session(database) as sql:
            name = await sql.one("select current_database()")
            for setting in (
                "default_transaction_isolation = 'serializable'",
                "default_transaction_read_only = on",
                "default_transaction_deferrable = off",
                "statement_timeout = '1ms'",
                "lock_timeout = '1ms'",
                "idle_in_transaction_session_timeout = '1ms'",
                "synchronous_commit = off",
                "search_path = ''",
            ):
                await sql.conn.execute(f"alter role duress in database {name} set {setting}".encode())
            async with Engine(database) as engine, working(engine):
                found = await (await engine.start("one", all_settings)).result(timeout=9)
                assert found == [
                    [isolation, "off", "on", "0"] for isolation in ("read committed", "repeatable read", "serializable")
                ]

    asyncio.run(run())


def test_a_transactions_sessions_are_few_and_kept(database: str) -> None:
    async def run() -> None:
        watch = Watch()
        async with session(database) as sql, running(database, observer=watch, work={"transactions": 2}) as engine:
            await sql.conn.execute(LEDGER.encode())
            handles = [await engine.start(f"w{n}", one_entry, str(n)) for n in range(20)]
            for handle in handles:
                await handle.result(timeout=9)
            assert await sql.one("select count(*) from pg_stat_activity where query = 'commit'") <= 2
            assert sorted(await ledger(sql), key=int) == [str(n) for n in range(20)]

    asyncio.run(run())
