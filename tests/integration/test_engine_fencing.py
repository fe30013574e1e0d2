"""A stale owner writes nothing: every write names its claim and what it knows to be durable, and the row decides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engine_room import PATIENCE_S, Sql, Watch, opened, running, session, working

from duress.engine import Engine, Handle, race, sleep, step, transaction, workflow
from duress.engine.observer import Facts

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@step
async def note(what: str) -> str:
    ran.append(what)
    return what


@transaction
async def enter(tx: Any) -> str:
    await tx.execute("insert into ledger default values")
    return "entered"


@workflow(name="fencing: writes")
async def writes(kind: str) -> str:
    try:
        match kind:
            case "step":
                await note("step")
            case "child":
                async with asyncio.TaskGroup() as group:
                    group.create_task(note("step"))
                    group.create_task(asyncio.sleep(9))
            case "failure":
                await fails()
            case "transaction":
                await enter()
            case "sleep" | "long sleep":
                await sleep(0.01 if kind == "sleep" else 3600)
            case "race":
                await race(asyncio.sleep(0))
            case "outcome":
                return "stale"
    except BaseException:
        await note("a stale owner's cleaning up")
        raise
    return "stale"


@step
async def fails() -> None:
    raise ValueError("stale")


POINTS = {"transaction": "step.started", "outcome": "workflow.finishing"}
KINDS = ["step", "child", "failure", "transaction", "sleep", "long sleep", "race", "outcome"]


@asynccontextmanager
async def held_before_writing(database: str, kind: str) -> AsyncIterator[tuple[Sql, Handle[Any], Watch, Any]]:
    watch = Watch()
    async with running(database, observer=watch) as engine, session(database) as sql:
        await sql.conn.execute(b"create table ledger (at timestamptz default clock_timestamp())")
        hold = watch.hold(POINTS.get(kind, "step.checkpointing"))
        handle = await engine.start("one", writes, kind)
        await hold.wait()
        yield sql, handle, watch, hold


# As if another worker had claimed it; as if it had, after a failover that lost the claim before (an epoch comes twice);
# as if the same worker had claimed it anew.
TAKEN = {
    "by another": ("owner = 77, epoch = epoch + 1", 77, 2),
    "under the same epoch": ("owner = 77", 77, 1),
    "by the same worker": ("epoch = epoch + 1", 1, 2),
}


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stale_owner_writes_nothing(database: str, kind: str, taken: str) -> None:
    async def run() -> None:
        change, owner, epoch = TAKEN[taken]
        async with held_before_writing(database, kind) as (sql, _, watch, hold):
            await sql.all(f"update duress.live set {change}")
            hold.release()
            fenced = await watch.seen("workflow.fenced", workflow="one")
            assert fenced["epoch"] == 1
            assert await sql.one("select count(*) from duress.checkpoint") == 0
            assert await sql.one("select count(*) from ledger") == 0
            assert await sql.all("select status, epoch, outcome from duress.workflow") == [("open", 0, None)]
            assert await sql.all("select owner, epoch from duress.live") == [(owner, epoch)]
            assert "a stale owner's cleaning up" not in ran

    asyncio.run(run())


@step
async def first() -> int:
    ran.append("first")
    return len(ran)


@workflow(name="fencing: known")
async def two_writes(kind: str) -> int:
    found = await first()
    if kind == "transaction":
        await enter()
    elif kind == "sleep":
        await sleep(0.01)
    elif kind == "step":
        await note("second")
    return found


@pytest.mark.parametrize("kind", ["step", "transaction", "sleep", "outcome"])
def test_a_writer_that_knows_more_than_the_database_stops_and_the_workflow_is_replayed(
    database: str, kind: str
) -> None:
    """After a failover that lost a commit, an owner's memory is ahead of the rows."""

    async def run() -> None:
        watch = Watch()
        async with running(database, observer=watch) as engine, session(database) as sql:
            await sql.conn.execute(b"create table ledger (at timestamptz default clock_timestamp())")
            points: dict[str, tuple[str, Facts]] = {
                "transaction": ("step.started", {"step": "2"}),
                "outcome": ("workflow.finishing", {}),
            }
            name, facts = points.get(kind, ("step.checkpointing", {"step": "2"}))
            hold = watch.hold(name, **facts)
            handle = await engine.start("one", two_writes, kind)
            await hold.wait()
            await sql.all("delete from duress.checkpoint")
            hold.release()
            result = await handle.result(timeout=9)
            assert result == (3 if kind == "step" else 2)  # what the body said when it ran for the second time
            assert ran.count("first") == 2
            assert await sql.one("select value::text from duress.checkpoint where step = '1'") == str(result)
            assert (await engine.show("one")).summary.epoch == 2
            if kind == "transaction":
                assert await sql.one("select count(*) from ledger") == 1

    asyncio.run(run())


def test_a_worker_declared_dead_gives_up_what_it_held_and_comes_back(database: str) -> None:
    async def run() -> None:
        watch = Watch()
        options = {"lease": 1.0, "heartbeat": 0.1}
        async with running(database, observer=watch, work=options) as engine, session(database) as sql:
            await sql.conn.execute(b"create table ledger (at timestamptz default clock_timestamp())")
            hold = watch.hold("step.started")
            handle = await engine.start("one", writes, "transaction")
            await hold.wait()  # inside an open transaction
            async with asyncio.timeout(PATIENCE_S):
                await sql.all("update duress.worker set lease_until = now()")
                [(answer,)] = await sql.all("select answer from duress.take_over_v1(1, 'lease', 20)")
            assert answer == "taken"
            await watch.seen("worker.lost", incarnation=1)
            await watch.seen("worker.joined", incarnation=2)
            hold.release()
            assert await handle.result(timeout=9) == "stale"
            assert await sql.one("select count(*) from ledger") == 1
            assert await sql.one("select owner from duress.checkpoint") == 2

    asyncio.run(run())


def test_no_claim_passes_between_the_check_of_a_write_and_its_commit(database: str) -> None:
    async def run() -> None:
        watch = Watch()
        async with running(database, observer=watch) as engine, session(database) as sql:
            await sql.conn.execute(b"create table ledger (at timestamptz default clock_timestamp())")
            hold = watch.hold("step.committing")
            handle = await engine.start("one", writes, "transaction")
            await hold.wait()
            for raising in ("update duress.live set epoch = epoch + 1", "select from duress.live for no key update"):
                with pytest.raises(Exception, match="lock timeout"):
                    await sql.conn.execute(f"set lock_timeout = '30ms'; {raising}".encode())
            hold.release()
            assert await handle.result(timeout=9) == "stale"
            assert await sql.one("select count(*) from ledger") == 1

    asyncio.run(run())


def test_a_lost_claim_that_was_taken_back_is_not_run_twice(database: str) -> None:
    """The same worker claims anew what was taken from it: the older run must not write beside the newer."""

    async def run() -> None:
        watch = Watch()
        async with opened(database, observer=watch) as engine, session(database) as sql, working(engine):
            hold = watch.hold("step.checkpointing", epoch=1)
            handle = await engine.start("one", writes, "step")
            await hold.wait()
            await sql.all("update duress.live set owner = null, ready_at = now()")
            async with Engine(database) as waker:  # a start wakes the worker
                await waker.start("two", writes, "outcome")
            assert await handle.result(timeout=9) == "stale"
            hold.release()
            assert await sql.all("select epoch from duress.checkpoint") == [(2,)]
            assert "a stale owner's cleaning up" not in ran

    asyncio.run(run())
