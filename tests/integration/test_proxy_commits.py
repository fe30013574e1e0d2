"""A COMMIT is cut where it was to be, however it is expressed: the row says so, and the client only that it lost the server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from proxied import standing_before, until

from duress.faults.postgres import Server
from duress.faults.proxy import COMMIT_POINTS, CutCommit, Proxy
from duress.faults.proxy.orders import CommitPoint

Connection = psycopg.AsyncConnection[Any]
Commit = Callable[[Connection], Awaitable[object]]
ADD = "update account set amount = amount + 7"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(settings={"max_prepared_transactions": "5"}) as server:
        yield server


async def simple(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute(ADD)


async def ended(connection: Connection) -> None:
    await connection.execute("begin")
    await connection.execute(ADD)
    await connection.execute("/* no COMMIT: */ END work")


async def chained(connection: Connection) -> None:
    await connection.execute("start transaction")
    await connection.execute(ADD)
    await connection.execute("commit and chain")


async def several(connection: Connection) -> None:
    await connection.execute(f"begin; {ADD}; commit; select 'commit'")


async def extended(connection: Connection) -> None:
    await connection.execute("begin", prepare=True)
    await connection.execute(ADD, prepare=True)
    await connection.execute("commit", prepare=True)


async def pipelined(connection: Connection) -> None:
    async with connection.pipeline():
        await connection.execute("select %s", [1])
        await connection.execute("begin")
        await connection.execute("update account set amount = amount + %s", [7])
        await connection.execute("commit")
        await connection.execute("select %s", [2])


async def two_phases(connection: Connection) -> None:
    await connection.execute("begin")
    await connection.execute(ADD)
    await connection.execute("prepare transaction 'one'")


async def implicit(connection: Connection) -> None:
    await connection.execute("update account set amount = amount + %s", [7])


async def implicit_simple(connection: Connection) -> None:
    await connection.execute(ADD)


async def implicit_several(connection: Connection) -> None:
    await connection.execute("update account set amount = amount + 3; update account set amount = amount + 4")


async def implicit_pipelined(connection: Connection) -> None:
    async with connection.pipeline():
        await connection.execute("select %s", [1])
        await connection.execute("update account set amount = amount + %s", [3])
        await connection.execute("update account set amount = amount + %s", [4])
        await connection.execute("select %s", [2])


async def broken_pipeline(connection: Connection) -> None:
    async with connection.pipeline():
        await connection.execute("begin")
        await connection.execute(ADD)
        await connection.execute("select 1/0")
        await connection.execute("commit")


EXPRESSIONS: tuple[Commit, ...] = (
    simple, ended, chained, several, extended, pipelined, implicit, implicit_simple, implicit_several, implicit_pipelined,
)  # fmt: skip


async def connect(dsn: str) -> Connection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, application_name="client")


async def set_up(dsn: str) -> Connection:
    admin = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await admin.execute("create table account (amount int); insert into account values (0)")
    return admin


async def amount(admin: Connection) -> int:
    """What the account holds once no session of the client is left that could still change it."""
    await until(admin, "select count(*) from pg_stat_activity where application_name = 'client'", 0)
    row = await (await admin.execute("select amount from account")).fetchone()
    assert row is not None
    return int(row[0])


async def cut_and_look(proxy: Proxy, dsn: str, admin: Connection, commit: Commit, point: CommitPoint) -> bool:
    """Cut one; whether the row was changed."""
    before = await amount(admin)
    async with await connect(dsn) as connection:
        await connection.execute("select 1")
        rule = await proxy.arm(3, CutCommit(point=point))
        with pytest.raises(psycopg.OperationalError) as raised:
            await commit(connection)
    assert raised.value.sqlstate is None
    assert (await asyncio.wait_for(proxy.fired(rule), 5)).what == f"COMMIT cut {point}"
    change = await amount(admin) - before
    assert change in (0, 7)
    return change == 7


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize("commit", EXPRESSIONS, ids=lambda commit: commit.__name__)
def test_the_row_is_absent_after_the_first_point_only(database: str, commit: Commit, split: bool) -> None:
    times = 50 if commit in (simple, pipelined, implicit) else 5

    async def check() -> dict[str, set[bool]]:
        seen: dict[str, set[bool]] = {}
        async with standing_before(database, split=split) as (proxy, dsn), await set_up(database) as admin:
            for point in COMMIT_POINTS:
                for _ in range(times):
                    seen.setdefault(point, set()).add(await cut_and_look(proxy, dsn, admin, commit, point))
        return seen

    assert asyncio.run(check()) == {point: {point != "before-forward"} for point in COMMIT_POINTS}


def test_a_commit_that_is_under_way_is_not_broken_off_with_the_connection(database: str) -> None:
    """Though the server looks whether its client is still there: what was forwarded is done."""

    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await set_up(database) as admin:
            async with await connect(f"{dsn} options='-c client_connection_check_interval=10ms'") as client:
                await proxy.arm(3, CutCommit(point="forwarded"))
                with pytest.raises(psycopg.OperationalError):
                    await client.execute("update account set amount = amount + 7 where pg_sleep(0.3) is not null")
            assert await amount(admin) == 7

    asyncio.run(check())


@pytest.mark.parametrize("point", COMMIT_POINTS)
@pytest.mark.parametrize("prepared", [False, True], ids=["prepare transaction", "commit prepared"])
def test_both_phases_of_a_commit_are_commits(database: str, prepared: bool, point: CommitPoint) -> None:
    """What is cut first is PREPARE TRANSACTION, and after it COMMIT PREPARED; the first alone changes no row."""

    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await set_up(database) as admin:
            async with await connect(dsn) as client:
                if prepared:
                    await two_phases(client)
                await proxy.arm(3, CutCommit(point=point))
                with pytest.raises(psycopg.OperationalError):
                    await (client.execute("commit prepared 'one'") if prepared else two_phases(client))
            applied = point != "before-forward"
            assert await amount(admin) == (7 if applied and prepared else 0)
            left = await (await admin.execute("select count(*) from pg_prepared_xacts")).fetchone()
            assert left == (int(applied != prepared),)
            if left == (1,):
                await admin.execute("rollback prepared 'one'")

    asyncio.run(check())


NO_COMMITS = [
    "begin; select 1; rollback",
    "commit",
    "begin; savepoint a; rollback to a; rollback",
    "select $$; commit;$$, 'commit; ', \"commit\" from (select 1 as \"commit\") as t -- ; commit\n /* ; commit; /* */ */",
    "select count(*) from account",
    "begin; create function f() returns int language sql begin atomic select case 1 when 1 then 1 end; end; rollback",
]  # fmt: skip


@pytest.mark.parametrize("point", ["before-forward", "applied-reply-held", "before-ReadyForQuery"])
def test_what_commits_nothing_is_not_counted(database: str, point: CommitPoint) -> None:
    """Neither what only looks like a COMMIT, nor that of a transaction that has failed; the first real one is cut."""

    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await set_up(database) as admin:
            async with await connect(dsn) as client:
                rule = await proxy.arm(3, CutCommit(point=point))
                for statement in NO_COMMITS:
                    await client.execute(statement)
                await client.execute("begin")
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await client.execute("select 1/0")
                await client.execute("commit")
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await broken_pipeline(client)
                await client.rollback()
                if point != "before-forward":  # which has to decide before it is known
                    with pytest.raises(psycopg.errors.DivisionByZero):
                        await client.execute("update account set amount = 1/0")
                with pytest.raises(psycopg.OperationalError):
                    await simple(client)
            await asyncio.wait_for(proxy.fired(rule), 5)
            assert await amount(admin) == (0 if point == "before-forward" else 7)

    asyncio.run(check())


@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_a_write_that_fails_when_it_commits_is_no_commit(database: str, point: CommitPoint) -> None:
    """Its CommandComplete may come before the error: a deferred constraint speaks at the Sync."""

    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await set_up(database) as admin:
            await admin.execute("create table once (n int unique deferrable initially deferred)")
            async with await connect(dsn) as client:
                await client.execute("insert into once values (1)")
                rule = await proxy.arm(3, CutCommit(point=point))
                if point not in ("before-forward", "forwarded"):  # those have to decide before it is known
                    with pytest.raises(psycopg.errors.UniqueViolation):
                        await client.execute("insert into once values (%s)", [1])
                with pytest.raises(psycopg.OperationalError):
                    await implicit(client)
            await asyncio.wait_for(proxy.fired(rule), 5)

    asyncio.run(check())


@pytest.mark.parametrize("commit", [simple, pipelined, implicit], ids=lambda commit: commit.__name__)
@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_the_third_commit_of_a_worker_is_cut_whichever_connections_they_are_on(
    database: str, commit: Commit, point: CommitPoint
) -> None:
    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await set_up(database) as admin:
            one = await connect(dsn)
            two = await connect(dsn)
            async with one, two:
                await proxy.arm(3, CutCommit(point=point, occurrence=3))
                await commit(one)
                await commit(two)
                with pytest.raises(psycopg.OperationalError):
                    await commit(one)
                await commit(two)  # it happens once
            assert await amount(admin) == (21 if point == "before-forward" else 28)

    asyncio.run(check())


def test_only_explicit_commits_are_cut_when_so_ordered(database: str) -> None:
    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await set_up(database), await connect(dsn) as client:
            for point in COMMIT_POINTS:
                rule = await proxy.arm(3, CutCommit(point=point, explicit_only=True))
                await implicit(client)
                await implicit_simple(client)
                assert await proxy.withdraw(3, rule)

    asyncio.run(check())
