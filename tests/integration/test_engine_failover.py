"""What an asynchronous standby lacks is lost, and said to be lost; nobody gets another workflow's outcome for his own."""

import asyncio
import re
import time
from collections.abc import Iterator

import psycopg
import pytest
from engine_room import Watch, working

from duress.engine import Engine, step, workflow
from duress.engine.errors import WorkflowNotFound
from duress.faults.postgres.pair import Pair

OPTIONS = {"lease": 1.0, "heartbeat": 0.2, "poll": 0.1}


@workflow(name="failover: twice")
async def twice(value: int) -> int:
    return 2 * value


@step
async def double(value: int) -> int:
    return 2 * value


@workflow(name="failover: noted")
async def noted(value: int) -> int:
    result: int = await double(value)
    return result


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary and its standby."""
    with Pair.start("async") as pair:
        yield pair


def caught_up(pair: Pair) -> None:
    with psycopg.connect(pair.first.dsn(), autocommit=True) as primary, psycopg.connect(pair.standby.dsn()) as standby:
        standby.autocommit = True
        row = primary.execute("select pg_current_wal_flush_lsn()").fetchone()
        assert row is not None
        while standby.execute("select pg_last_wal_replay_lsn() >= %s", row).fetchone() != (True,):
            pass


def test_a_handle_of_a_lost_workflow_says_so_though_another_has_its_number(pair: Pair) -> None:
    async def run() -> None:
        async with Engine(pair.dsn()) as engine:
            await engine.migrate()
            await asyncio.to_thread(caught_up, pair)
            pair.link.cut()
            lost = await engine.start("lost", twice, 3)
            number = await lost.number()
            waiting = asyncio.create_task(lost.result(timeout=20))
            await asyncio.to_thread(pair.lose_primary)
            await asyncio.to_thread(pair.promote)
            other = await engine.start("other", twice, 4)
            assert await other.number() == number, "the sequence has gone back with the rest"
            async with working(engine, **OPTIONS):
                assert await other.result(timeout=20) == 8
                with pytest.raises(WorkflowNotFound, match="'lost'"):
                    await waiting
                with pytest.raises(WorkflowNotFound, match="'lost'"):
                    await lost.result(timeout=20)
                again = await engine.start("lost", twice, 3)
                assert await again.number() != number
                assert await again.result(timeout=20) == 6
                assert await lost.result(timeout=20) == 6, "accepted again, it is the same workflow"

    asyncio.run(run())


def test_a_checkpoint_outlasts_a_failover_to_a_server_that_is_read_only_first(pair: Pair) -> None:
    """The worker's DSN names both servers and leaves out which of them takes writes."""

    async def run() -> None:
        dsn = psycopg.conninfo.make_conninfo(pair.dsn(), target_session_attrs="any")
        watch = Watch()
        body = watch.hold("step.started")
        async with Engine(pair.dsn()) as client, Engine(dsn, observer=watch) as engine:
            await client.migrate()
            async with working(engine, **OPTIONS):
                handle = await client.start("one", noted, 21)
                await body.wait()
                await asyncio.to_thread(caught_up, pair)
                await asyncio.to_thread(pair.lose_primary)
                body.release()
                await asyncio.to_thread(refused_a_checkpoint, pair)
                await asyncio.to_thread(pair.promote)
                assert await handle.result(timeout=20) == 42
                assert len(watch.all("step.started")) == 1, "the body need not run again"

    asyncio.run(run())


def refused_a_checkpoint(pair: Pair) -> None:
    """Wait until the standby has told somebody that it is read-only, who wanted to write a checkpoint."""
    deadline = time.monotonic() + 20
    while not re.search(r"state=25006 .*STATEMENT:  select .*checkpoint_v1", pair.standby.log_path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
