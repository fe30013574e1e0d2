"""A durable sleep ends by the database's clock, whatever happens meanwhile; a long one holds nothing."""

import asyncio
import gc
import weakref
from datetime import timedelta
from typing import Any

import pytest
from engine_room import Watch, opened, running, session, until, working

from duress.engine import current, sleep, step, workflow
from duress.engine.errors import ConfigurationError, WorkflowFailed
from duress.engine.execution import Execution

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@step
async def note(what: str, seconds: float = 0.0) -> str:
    ran.append(what)
    await asyncio.sleep(seconds)
    return what


@workflow(name="sleep: one")
async def one(seconds: float) -> str:
    await note("before")
    try:
        await sleep(seconds)
    finally:
        await note("finally")
    return await note("after")


@pytest.mark.parametrize("suspend_after", [0.0, 9.0])
def test_no_sleep_ends_early_in_memory_or_suspended(database: str, suspend_after: float) -> None:
    async def run() -> None:
        watch = Watch()
        options = {"suspend_after": suspend_after}
        async with running(database, observer=watch, work=options) as engine, session(database) as sql:
            before = float(await sql.one("select extract(epoch from clock_timestamp())"))
            assert await (await engine.start("one", one, 0.15)).result(timeout=9) == "after"
            fired = await watch.seen("timer.fired")
            assert isinstance(fired["at"], float) and isinstance(fired["due_at"], float)
            assert fired["at"] >= fired["due_at"] >= before + 0.15
            assert bool(watch.all("workflow.suspended")) is (suspend_after == 0)
            assert ran == ["before", "finally", "after"]  # nothing during unwinding

    asyncio.run(run())


def test_a_long_sleep_holds_no_owner_no_memory_and_no_place(database: str) -> None:
    async def run() -> None:
        async with running(database, work={"concurrency": 2}) as engine, session(database) as sql:
            handles = [await engine.start(f"w{n}", one, 3600) for n in range(20)]
            await sql.until("select count(*) from duress.live where owner is null and ready_at > now()", is_=20)
            assert {await handle.status() for handle in handles} == {"sleeping"}
            alive: list[Any] = [1]

            def gone() -> bool:
                gc.collect()
                alive[:] = [weakref.ref(found) for found in gc.get_objects() if isinstance(found, Execution)]
                return not alive

            await until(gone)
            assert ran == ["before"] * 20
            assert await sql.one("select max(takeovers) from duress.live") == 0

    asyncio.run(run())


def test_a_sleep_survives_its_worker_and_is_not_begun_anew(database: str) -> None:
    async def run() -> None:
        async with opened(database) as engine, session(database) as sql:
            async with working(engine, suspend_after=0.05):
                handle = await engine.start("one", one, 0.4)
                await sql.until("select ready_at > now() from duress.live")
            due = await sql.one("select value::text from duress.checkpoint where kind = 'sleep'")
            async with working(engine, suspend_after=0.05):
                assert await handle.result(timeout=9) == "after"
            assert await sql.one("select value::text from duress.checkpoint where kind = 'sleep'") == due
            assert await sql.one("select count(*) from duress.checkpoint where kind = 'sleep'") == 1

    asyncio.run(run())


@workflow(name="sleep: beside")
async def beside(how: str, seconds: float) -> list[Any]:
    match how:
        case "steps":
            return await asyncio.gather(note("step", 0.3), sleep(seconds))  # type: ignore[return-value]
        case "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(sleep(seconds))
                group.create_task(sleep(seconds + 0.1))
        case "guarded":
            async with asyncio.TaskGroup() as group:
                group.create_task(guarded(seconds))
                group.create_task(guarded(seconds + 0.1))
        case "shielded":
            await asyncio.gather(sleep(seconds), sleep(seconds), return_exceptions=True)
    return [await note("end")]


async def guarded(seconds: float) -> None:
    try:
        await sleep(seconds)
    finally:
        await note("guard")


@pytest.mark.parametrize("how", ["steps", "group", "guarded", "shielded"])
def test_child_tasks_that_only_sleep_suspend_the_workflow(database: str, how: str) -> None:
    async def run() -> None:
        watch = Watch()
        async with running(database, observer=watch, work={"suspend_after": 0.1}) as engine, session(database) as sql:
            handle = await engine.start("one", beside, how, 3600)
            await sql.until("select count(*) from duress.live where owner is null and ready_at > now()", is_=1)
            assert "guard" not in ran and "end" not in ran
            await sql.all("update duress.checkpoint set value = '1.5' where kind = 'sleep'")
            await sql.all("update duress.live set ready_at = now()")
            await handle.result(timeout=9)
            assert ran.count("step") == (how == "steps")
            assert ran.count("guard") == 2 * (how == "guarded")
            assert ran.count("end") == (how != "steps")

    asyncio.run(run())


@step
async def fetched(what: str) -> str:
    ran.append(f"{what} {current().epoch}")
    return what


async def plain_then_step() -> str:
    await asyncio.sleep(0.6)  # a plain call between steps, say over the network
    return await fetched("plain")


@workflow(name="sleep: plain")
async def with_plain_code() -> str:
    sleeping = asyncio.create_task(sleep(3600))
    found = await plain_then_step()
    sleeping.cancel()
    return found


@workflow(name="sleep: plain child")
async def with_plain_child() -> str:
    sleeping = asyncio.create_task(sleep(3600))
    found = (await asyncio.gather(plain_then_step()))[0]
    sleeping.cancel()
    return found


@pytest.mark.parametrize("code", [with_plain_code, with_plain_child])
def test_plain_code_beside_a_long_sleep_is_not_cut_short(database: str, code: Any) -> None:
    async def run() -> None:
        watch = Watch()
        async with running(database, observer=watch, work={"suspend_after": 0.05}) as engine:
            assert await (await engine.start("one", code)).result(timeout=9) == "plain"
            assert ran == ["plain 1"]
            assert not watch.all("workflow.suspended")

    asyncio.run(run())


@workflow(name="sleep: bad")
async def bad(seconds: float, nan: bool) -> None:
    await sleep(float("nan") if nan else seconds)


@pytest.mark.parametrize(("seconds", "nan"), [(-1, False), (0, True)])
def test_a_duration_that_cannot_be_is_refused(database: str, seconds: float, nan: bool) -> None:
    async def run() -> None:
        async with running(database) as engine:
            with pytest.raises(WorkflowFailed, match=ConfigurationError.__name__):
                await (await engine.start("one", bad, seconds, nan)).result(timeout=9)

    asyncio.run(run())


@workflow(name="sleep: many")
async def many(count: int) -> int:
    for _ in range(count):
        await sleep(timedelta(milliseconds=1))
    await sleep(0)
    return count


def test_many_short_sleeps_of_many_workflows_end_soon(database: str) -> None:
    async def run() -> None:
        async with running(database) as engine, session(database) as sql:
            handles = [await engine.start(f"w{n}", many, 10) for n in range(30)]
            assert [await handle.result(timeout=15) for handle in handles] == [10] * 30
            assert await sql.one("select count(*) from duress.checkpoint") == 330

    asyncio.run(run())
