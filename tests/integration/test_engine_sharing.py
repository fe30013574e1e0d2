"""Workflows of one worker share round trips, and none of them harms another; the server counts what a call costs."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engine_room import Sql, Watch, opened, running, session, until, working

from duress.engine import Engine, sleep, step, transaction, workflow
from duress.engine.errors import StepFailed


@step
async def note(value: Any) -> Any:
    return value


@transaction
async def enter(tx: Any) -> int:
    await tx.execute("select 1 as own_statement")
    return 1


@workflow(name="sharing: steps")
async def steps(count: int) -> int:
    for n in range(count):
        await note(n)
    return count


@workflow(name="sharing: transactions")
async def transactions(count: int) -> int:
    for _ in range(count):
        await enter()
    return count


@workflow(name="sharing: sleeps")
async def sleeps(seconds: float) -> str:
    await sleep(seconds)
    return "woke"


@workflow(name="sharing: bad")
async def bad_value() -> str:
    try:
        await note(float("nan"))
    except StepFailed as error:
        return error.type
    return "?"


@asynccontextmanager
async def counted(database: str) -> AsyncIterator[Sql]:
    async with session(database) as sql:
        await sql.conn.execute(b"create extension if not exists pg_stat_statements")
        yield sql


async def calls(sql: Sql) -> dict[str, int]:
    """Statements by the functions they call, or their first words, since the last time; the engine's heartbeat apart."""
    rows = await sql.all(
        "select query, calls from pg_stat_statements"
        " where dbid = (select oid from pg_database where datname = current_database()) and toplevel"
    )
    await sql.all("select pg_stat_statements_reset()")
    found: dict[str, int] = {}
    for query, count in rows:
        name = query.split("duress.")[1].split("(")[0] if "duress." in query else " ".join(query.lower().split()[:2])
        if name not in ("renew_v1", "claim_v1", "watch_v1", "await_v1", "select pg_stat_statements_reset()"):
            found[name] = found.get(name, 0) + count
    return found


def test_round_trips_alone(database: str) -> None:
    """Start 1, step 1, transaction 3 and its SQL, complete 1."""

    async def run() -> None:
        async with running(database) as engine, counted(database) as sql:
            await (await engine.start("warm up", steps, 1)).result(timeout=9)
            await (await engine.start("warm up too", transactions, 1)).result(timeout=9)
            await engine.list()  # the client opens a connection of its own for reading, also where a result takes long
            await sql.until(
                "select count(*) from pg_stat_activity where datname = current_database() and query like 'listen%%done%%'",
                is_=1,
            )
            await calls(sql)
            await (await engine.start("one", steps, 7)).result(timeout=9)
            found = await calls(sql)
            assert found == {"start_v1": 1, "checkpoint_v1": 7, "finishes_v1": 1} or found == {
                "start_v1": 1,
                "checkpoint_v1": 7,
                "finish_v1": 1,
            }
            await (await engine.start("two", transactions, 5)).result(timeout=9)
            found = await calls(sql)
            own = {name: count for name, count in found.items() if name not in ("start_v1", "finishes_v1", "finish_v1")}
            assert own == {"begin isolation": 5, "select $1": 5, "checkpoint_v1": 5, "commit": 5}
            assert await (await engine.start("three", sleeps, 0.01)).result(timeout=9) == "woke"
            assert (await calls(sql))["sleep_v1"] == 1

    asyncio.run(run())


def test_sixty_four_workflows_share_round_trips(database: str) -> None:
    async def run() -> None:
        async with opened(database) as engine, counted(database) as sql:
            handles = await asyncio.gather(*(engine.start(f"w{n}", steps, 10) for n in range(64)))
            assert (await calls(sql))["start_v1"] < 32
            async with working(engine):
                assert [await handle.result(timeout=30) for handle in handles] == [10] * 64
                found = await calls(sql)
            assert sum(count for name, count in found.items() if name.startswith("checkpoint")) < 320, found
            assert sum(count for name, count in found.items() if name.startswith("finish")) < 48, found
            assert await sql.one("select count(*) from duress.checkpoint") == 640

    asyncio.run(run())


def test_a_worker_uses_the_connections_that_it_states(database: str) -> None:
    async def run() -> None:
        watch = Watch()
        async with opened(database) as client, session(database) as sql, Engine(database, observer=watch) as engine:
            options = {"writers": 3, "transactions": 2}
            async with working(engine, **options), working(client, **options):  # a neighbour to watch
                every = [await client.start(f"t{n}", transactions, 5) for n in range(20)]
                every += [await client.start(f"s{n}", steps, 5) for n in range(40)]
                count = "select count(*) from pg_stat_activity where application_name = 'duress:1'"
                most = 0
                waiting = asyncio.gather(*(handle.result(timeout=30) for handle in every))
                while not waiting.done():
                    most = max(most, await sql.one(count))
                    await asyncio.sleep(0.01)
                assert 4 <= most <= 3 + 4 + 2
            await sql.until("select count(*) from pg_stat_activity where application_name ~ 'duress:[0-9]'", is_=0)

    asyncio.run(run())


@pytest.mark.parametrize("lock", ["for update", "for no key update"])
def test_one_locked_row_harms_nobody_else(database: str, lock: str) -> None:
    async def run() -> None:
        watch = Watch()
        async with running(database, observer=watch) as engine, session(database) as sql, session(database) as locker:
            holds = [watch.hold("step.checkpointing", workflow=f"locked {n}") for n in range(4)]
            kinds: list[Any] = [(sleeps, 0.01), (sleeps, 3600.0), (steps, 1), (steps, 2)]
            locked = [await engine.start(f"locked {n}", *kind) for n, kind in enumerate(kinds)]
            for hold in holds:
                await hold.wait()
            async with locker.conn.transaction():
                assert len(await locker.all(f"select 1 from duress.live {lock}")) == 4
                for hold in holds:
                    hold.release()
                others: list[Any] = await asyncio.gather(*(engine.start(f"free {n}", steps, 5) for n in range(20)))
                others.append(await engine.start("free sleep", sleeps, 0.05))
                others.append(await engine.start("free transaction", transactions, 2))
                for handle in others:
                    await handle.result(timeout=9)
                assert await sql.one("select count(*) from duress.checkpoint where number <= 4") == 0
            assert await locked[2].result(timeout=9) == 1
            assert await locked[0].result(timeout=9) == "woke"
            await sql.until("select count(*) from duress.live where owner is null", is_=1)

    asyncio.run(run())


def test_one_bad_value_harms_nobody_else(database: str) -> None:
    async def run() -> None:
        async with opened(database) as engine:
            handles = [await engine.start(f"w{n}", steps, 3) for n in range(30)]
            bad = [await engine.start(f"b{n}", bad_value) for n in range(5)]
            async with working(engine):
                assert [await handle.result(timeout=9) for handle in handles] == [3] * 30
                assert [await handle.result(timeout=9) for handle in bad] == ["ValueNotSerializable"] * 5

    asyncio.run(run())


@workflow(name="sharing: blocks")
async def blocks(seconds: float, in_step: bool) -> None:
    if in_step:
        await blocking(seconds)
    else:
        time.sleep(seconds)  # noqa: ASYNC251


@step
async def blocking(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251


@pytest.mark.parametrize("in_step", [True, False])
def test_whoever_blocks_the_event_loop_is_named(database: str, in_step: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with running(database, work={"lease": 0.4, "heartbeat": 0.1}) as engine:
            await engine.start("culprit", blocks, 0.6, in_step)
            named = "step 'blocking' of workflow 'culprit'" if in_step else "code of a workflow between its steps"
            with caplog.at_level(logging.ERROR, "duress.engine"):
                await until(lambda: any(named in record.getMessage() for record in caplog.records))

    asyncio.run(run())


def test_no_message_of_the_engine_shows_a_value(database: str, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        watch = Watch()
        async with running(database, observer=watch) as engine:
            await (await engine.start("one", echo, "hunter2")).result(timeout=9)
            with pytest.raises(Exception, match="failed"):
                await (await engine.start("two", refuse, "hunter2")).result(timeout=9)
            assert "hunter2" not in repr(await engine.show("two"))
            assert "hunter2" not in repr(await engine.list())
        assert "hunter2" not in repr(watch.points)

    with caplog.at_level(logging.DEBUG, "duress.engine"):
        asyncio.run(run())
    assert "hunter2" not in caplog.text


@workflow(name="sharing: echo")
async def echo(value: str) -> str:
    return await note(value)  # type: ignore[no-any-return]


@workflow(name="sharing: refuse")
async def refuse(value: str) -> str:
    raise ValueError(await note(value))
