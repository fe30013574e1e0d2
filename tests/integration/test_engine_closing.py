"""What is closed leaves nothing: no connection, no task, no warning, however it ends."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_room import Watch, opened, running, session, working

from duress.engine import Engine, Retry, sleep, step, transaction, workflow

PROGRAM = """
import asyncio, gc, sys
from duress.engine import Engine, sleep, step, transaction, workflow

@step
async def note(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds

@step
def in_thread() -> int:
    return 1

@transaction
async def enter(tx, seconds: float) -> float:
    await tx.execute("select pg_sleep(%s)", [seconds])
    return seconds

@workflow
async def mixed(seconds: float) -> float:
    await asyncio.gather(note(0), enter(0), in_thread(), sleep(0.01))
    await asyncio.gather(note(seconds), enter(seconds))
    return seconds

async def main(dsn: str, how: str) -> None:
    tasks_before = asyncio.all_tasks()
    async with Engine(dsn) as engine, Engine(dsn) as other:
        await engine.migrate()
        work = asyncio.create_task(engine.work())
        handles = [await other.start(f"{how} {n}", mixed, 0 if how == "done" else 0.2) for n in range(12)]
        waiting = [asyncio.create_task(handle.result()) for handle in handles]
        if how == "done":
            await asyncio.gather(*waiting)
        else:
            await asyncio.wait(waiting[:1], timeout=0.1)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        if how == "cancelled":
            work.cancel()
            await asyncio.wait({work})
        elif how == "stopped" or how == "done":
            engine.stop()
            await work
    if how == "left open":  # the engine was closed while its worker ran
        await asyncio.wait({work}, timeout=5)
        assert work.done()
    left = {task for task in asyncio.all_tasks() - tasks_before if not task.done()}
    assert not left, left

asyncio.run(main(*sys.argv[1:]))
gc.collect()
"""


@pytest.mark.parametrize("how", ["done", "stopped", "cancelled", "left open"])
def test_a_program_ends_without_a_warning(database: str, how: str) -> None:
    found = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, database, how],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""


ran: list[str] = []


@step
async def note(what: str, seconds: float = 0.0) -> str:
    ran.append(f"{what} begins")
    await asyncio.sleep(seconds)
    ran.append(f"{what} ends")
    return what


@step(retry=Retry(attempts=9, initial=20, jitter=0))
async def unsteady() -> None:
    raise ConnectionError


@transaction
async def enter(tx: Any) -> str:
    await tx.execute("select pg_sleep(0.2)")
    return "entered"


@workflow(name="closing: busy")
async def busy(how: str) -> str:
    match how:
        case "step":
            await note("body", 0.2)
        case "transaction":
            await enter()
        case "siblings":
            await asyncio.gather(note("body", 0.2), two_steps())
        case "sleeps":
            await asyncio.gather(note("body", 0.2), sleep(3600))
        case "retries":
            await asyncio.gather(note("body", 0.2), unsteady())
        case "plain":
            await asyncio.sleep(3600)
        case "last":
            return await note("body", 0.2)
    return await note("next")


async def two_steps() -> None:
    await note("quick")
    await asyncio.sleep(0.1)
    await note("not to begin")


@pytest.mark.parametrize(
    ("how", "recorded", "status"),
    [
        ("step", ["1"], "pending"),
        ("transaction", ["1"], "pending"),
        ("siblings", ["1/1", "2/1"], "pending"),
        ("sleeps", ["1/1", "2/1"], "pending"),
        ("retries", ["1/1"], "pending"),
        ("plain", [], "pending"),
        ("last", ["1"], "succeeded"),
    ],
)
def test_a_graceful_stop_records_bodies_in_progress_and_begins_nothing(
    database: str, how: str, recorded: list[str], status: str
) -> None:
    async def run() -> None:
        ran.clear()
        watch = Watch()
        async with opened(database, observer=watch) as engine:
            async with working(engine):
                handle = await engine.start("one", busy, how)
                if how == "plain":
                    await watch.seen("workflow.claimed")
                else:
                    await watch.seen("step.started", count=2 if how in ("siblings", "retries") else 1)
                if how == "sleeps":
                    await watch.seen("step.checkpointed")
                began = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - began < 2
            assert sorted(found.step for found in (await engine.show("one")).checkpoints) == recorded
            assert await handle.status() == status
            assert "next begins" not in ran and "not to begin begins" not in ran
            assert ran.count("body begins") == ran.count("body ends")
            assert len(watch.all("worker.left")) == 1

    asyncio.run(run())


@step
async def cannot_stop() -> str:
    try:
        await asyncio.sleep(9)
    except asyncio.CancelledError:
        raise ValueError("cancelled, and says something else") from None
    return "?"


@workflow(name="closing: stubborn")
async def stubborn() -> str:
    return await cannot_stop()


def test_a_body_that_is_cancelled_has_no_outcome(database: str) -> None:
    """What it raises then is not recorded as its failure: it runs again elsewhere."""

    async def run() -> None:
        watch = Watch()
        async with opened(database, observer=watch) as engine:
            async with working(engine, grace=0.05):
                handle = await engine.start("one", stubborn)
                await watch.seen("step.started")
            assert (await engine.show("one")).checkpoints == ()
            assert await handle.status() == "pending"

    asyncio.run(run())


@pytest.mark.parametrize("heartbeat", [0.1, 30.0])
def test_leaving_does_not_wait_for_the_heartbeat(database: str, heartbeat: float) -> None:
    async def run() -> None:
        watch = Watch()
        async with opened(database, observer=watch) as engine, session(database) as sql:
            async with working(engine, heartbeat=heartbeat, lease=3 * heartbeat):
                await watch.seen("worker.renewed")
                began = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - began < 1
            assert await sql.one("select end_reason from duress.worker") == "left"
            await sql.until("select count(*) from pg_stat_activity where application_name like 'duress:1'", is_=0)

    asyncio.run(run())


def test_a_cancelled_worker_leaves_its_work_to_the_next_one(database: str) -> None:
    async def run() -> None:
        watch = Watch()
        async with opened(database, observer=watch) as engine:
            work = asyncio.create_task(engine.work(name="same", lease=20.0))
            handle = await engine.start("one", busy, "transaction")
            await watch.seen("step.started")
            work.cancel()
            await asyncio.wait({work})
            assert work.cancelled()
            async with working(engine, name="same", lease=20.0):
                assert await handle.result(timeout=9) == "next"

    asyncio.run(run())


@step
async def leaves(what: str, seconds: float) -> None:
    try:
        await asyncio.sleep(9)
    finally:
        await asyncio.sleep(seconds)
        ran.append(f"{what} left")


@workflow(name="closing: siblings")
async def siblings() -> None:
    await asyncio.gather(leaves("quick", 0), leaves("slow", 0.1))


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
def test_a_worker_ends_after_all_tasks_of_its_workflows(database: str, how: str) -> None:
    """Also those for which a cancelled `gather` does not wait."""

    async def run() -> None:
        ran.clear()
        watch = Watch()
        async with opened(database, observer=watch) as engine:
            work = asyncio.create_task(engine.work(grace=0.05))
            await engine.start("one", siblings)
            await watch.seen("step.started", count=2)
            if how == "cancelled":
                work.cancel()
            else:
                engine.stop()
            await asyncio.wait({work})
            assert ran == ["quick left", "slow left"]

    asyncio.run(run())


def test_two_workers_of_one_engine_stop_together(database: str) -> None:
    async def run() -> None:
        async with running(database) as engine, Engine(database) as client, working(engine):
            assert await (await client.start("one", busy, "last")).result(timeout=9) == "body"

    asyncio.run(run())
