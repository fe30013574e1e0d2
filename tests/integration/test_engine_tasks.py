"""Steps in child tasks keep their places, and a race has the same winner at every replay."""

import asyncio
from typing import Any

import pytest
from engine_room import Watch, opened, registered, running, session, until, working

from duress.engine import Engine, current, race, sleep, step, transaction, workflow
from duress.engine.errors import StepFailed, WorkflowFailed

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@step
async def note(what: str, seconds: float = 0.0) -> str:
    ran.append(what)
    await asyncio.sleep(seconds)
    return what


@step
async def refuse(what: str) -> str:
    ran.append(what)
    raise ValueError(what)


async def pair(name: str, late: bool) -> str:
    if late:
        await asyncio.sleep(0.02)
    return await note(f"{name}1") + await note(f"{name}2")


@workflow(name="tasks: gather")
async def gathers(pause: float) -> list[str]:
    found = await asyncio.gather(pair("a", True), pair("b", False))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(pair(name, False)) for name in "cd"]
    await sleep(pause)
    return [*found, *(task.result() for task in tasks), await note("end")]


def test_steps_in_child_tasks_have_places_that_a_replay_finds(database: str) -> None:
    async def run() -> None:
        async with running(database, work={"suspend_after": 0.05}) as engine:
            handle = await engine.start("one", gathers, 0.1)
            assert await handle.result(timeout=9) == ["a1a2", "b1b2", "c1c2", "d1d2", "end"]
            details = await engine.show("one")
            assert details.summary.epoch == 2
            places = {f"{child}/{place}" for child in (1, 2, 3, 4) for place in (1, 2)}
            assert {checkpoint.step for checkpoint in details.checkpoints} == {*places, "1", "2"}
            assert sorted(ran) == sorted(["a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2", "end"])  # each once

    asyncio.run(run())


def test_a_workflow_begun_beside_another_worker_goes_on_where_there_is_none(database: str) -> None:
    """The places must not depend on how many workers share a process."""

    async def run() -> None:
        async with opened(database) as engine, Engine(database) as other, session(database) as sql:
            async with working(engine), working(other):
                handle = await engine.start("one", gathers, 3600)
                await sql.until("select ready_at > now() from duress.live")
            await sql.all("update duress.live set ready_at = now()")
            await sql.all("update duress.checkpoint set value = '1.5' where kind = 'sleep'")
            async with working(engine):
                assert (await handle.result(timeout=9))[-1] == "end"
            assert len(ran) == 9

    asyncio.run(run())


@workflow(name="tasks: race")
async def races(pause: float, loser_fails: bool) -> list[Any]:
    winner, value = await race(note("slow", 9.0), note("fast"), pair("x", True))
    await sleep(pause)
    return [winner, value, await note("after")]


def test_a_race_has_one_winner_for_ever(database: str) -> None:
    async def run() -> None:
        async with running(database, work={"suspend_after": 0.05}) as engine, session(database) as sql:
            handle = await engine.start("one", races, 0.1, False)
            assert await handle.result(timeout=9) == [1, "fast", "after"]
            assert (await engine.show("one")).summary.epoch == 2
            assert [name for name in ran if name in ("fast", "after")] == ["fast", "after"]
            assert ran.count("slow") == 1  # the replay does not run losers
            assert await sql.one("select value::text from duress.checkpoint where kind = 'race'") == "1"

    asyncio.run(run())


@workflow(name="tasks: exception")
async def race_with_exception(pause: float) -> str:
    try:
        await race(refuse("first"), note("slow", 9.0))
    except StepFailed as error:
        await sleep(pause)
        return str(error)
    return "?"


def test_the_winners_exception_is_raised_at_replay_too(database: str) -> None:
    async def run() -> None:
        async with running(database, work={"suspend_after": 0.05}) as engine:
            handle = await engine.start("one", race_with_exception, 0.1)
            assert await handle.result(timeout=9) == "ValueError: first"
            assert (await engine.show("one")).summary.epoch == 2
            assert ran.count("first") == 1

    asyncio.run(run())


@workflow(name="tasks: timeout")
async def with_timeout() -> str:
    winner, value = await race(sleep(0.05), note("never", 9.0))
    return f"{winner} {value}"


def test_a_race_against_a_sleep_is_a_timeout(database: str) -> None:
    async def run() -> None:
        async with running(database) as engine:
            assert await (await engine.start("one", with_timeout)).result(timeout=9) == "0 None"

    asyncio.run(run())


async def first_version() -> str:
    return await note("a") + await note("b") + (await hold_here())


async def hold_here() -> str:
    await sleep(3600)
    return await note("c")


async def other_step() -> str:
    return await note("a") + await renamed("b") + await hold_here()


async def fewer_steps() -> str:
    return await note("a")


async def another_order() -> str:
    await sleep(0)
    return await note("a") + await note("b")


async def forgiving() -> str:
    """What a try around everything must not do: go on after the replay went another way."""
    try:
        await renamed("a")
    except Exception:  # noqa: BLE001
        await note("compensation")
    await sleep(3600)
    await note("more")
    return "survived"


async def concurrent() -> str:
    found = await asyncio.gather(note("a"), note("b"))
    return "".join(found)


@step(name="another name")
async def renamed(what: str) -> str:
    ran.append(what)
    return what


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (other_step, "asks for step 'another name' at place 2, where step 'note' was recorded"),
        (fewer_steps, "ended before place 2, where step 'note' was recorded"),
        (another_order, "asks for sleep 'sleep' at place 1, where step 'note' was recorded"),
        (forgiving, "asks for step 'another name' at place 1, where step 'note' was recorded"),
        (concurrent, "ended before place 1, where step 'note' was recorded"),
    ],
)
def test_changed_code_fails_by_name_with_both_calls_and_writes_no_step(database: str, code: Any, message: str) -> None:
    async def run() -> None:
        old, begun = registered(first_version, "tasks: changed")
        new, _ = registered(code, "tasks: changed")
        async with opened(database, registry=old) as engine, session(database) as sql:
            async with working(engine):
                handle = await engine.start("one", begun)
                await sql.until("select ready_at > now() from duress.live")
            await sql.all("update duress.live set ready_at = now()")
            await sql.all("update duress.checkpoint set value = '1.5' where kind = 'sleep'")
            before = await sql.all("select step, name, value::text from duress.checkpoint where step not like '%%/%%'")
            async with Engine(database, registry=new) as newer, working(newer):
                with pytest.raises(WorkflowFailed) as caught:
                    await handle.result(timeout=9)
                assert caught.value.type == "NonDeterminism"
                assert message in caught.value.message
                assert "not deterministic, or was changed" in caught.value.message
            after = await sql.all("select step, name, value::text from duress.checkpoint where step not like '%%/%%'")
            assert after == before
            assert "more" not in ran and "compensation" not in ran

    asyncio.run(run())


async def at_another_time() -> str:
    task = asyncio.create_task(note("child"))
    await asyncio.wait([task])
    return task.result()


def test_a_place_skipped_by_the_record_is_named(database: str) -> None:
    async def run() -> None:
        registry, code = registered(first_version, "tasks: gap")
        async with opened(database, registry=registry) as engine, session(database) as sql:
            handle = await engine.start("one", code)
            number = await handle.number()
            await sql.all(
                "insert into duress.checkpoint (number, step, name, kind, failed, value, owner, epoch)"
                " values (%s, '2', 'duress', 'step', false, '1', 1, 1)",
                number,
            )
            await sql.all("update duress.live set epoch = 1")
            async with working(engine):
                with pytest.raises(WorkflowFailed, match="at place 1, where nothing was recorded, but place 2 was"):
                    await handle.result(timeout=9)
            assert ran == []

    asyncio.run(run())


def test_a_workflow_whose_code_is_gone_waits_and_loses_nothing(database: str, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        old, begun = registered(at_another_time, "tasks: gone")
        new, present = registered(at_another_time, "tasks: present")
        watch = Watch()
        async with opened(database, registry=old) as engine, session(database) as sql:
            await sql.conn.execute(b"create extension pg_stat_statements")
            handle = await engine.start("one", begun)
            async with (
                Engine(database, registry=new, observer=watch) as other,
                working(other, heartbeat=0.3, poll=0.15),
            ):
                assert await (await other.start("two", present)).result(timeout=9) == "child"
                await sql.all("select pg_stat_statements_reset()")
                await watch.seen("worker.renewed", count=len(watch.all("worker.renewed")) + 2)
                calls = await sql.one(
                    "select coalesce(sum(calls), 0) from pg_stat_statements where query like '%%claim_v1%%'"
                    " and dbid = (select oid from pg_database where datname = current_database())"
                )
                assert calls < 20, "the worker asks without a pause for what it cannot run"
                assert await handle.status() == "pending"
                await until(
                    lambda: "'tasks: gone' (for example one) waits for a worker that has its code" in caplog.text
                )
            async with working(engine):
                assert await handle.result(timeout=9) == "child"

    asyncio.run(run())


_snapshot_is_taken, _sibling_is_durable = asyncio.Event(), asyncio.Event()


@transaction(isolation="repeatable read")
async def looks_before_its_sibling(tx: Any) -> int:
    await tx.execute("select 1")
    _snapshot_is_taken.set()
    await _sibling_is_durable.wait()
    return current().epoch


@step
async def sibling() -> None:
    await _snapshot_is_taken.wait()


@workflow
async def snapshot_beside_a_sibling() -> int:
    epoch, _ = await asyncio.gather(looks_before_its_sibling(), sibling())
    return epoch


def test_a_snapshot_older_than_a_siblings_checkpoint_costs_no_claim(database: str) -> None:
    async def run() -> None:
        watch = Watch()
        _snapshot_is_taken.clear()
        _sibling_is_durable.clear()
        async with running(database, observer=watch) as engine:
            handle = await engine.start("one", snapshot_beside_a_sibling)
            await watch.seen("step.checkpointed", step="2/1")
            _sibling_is_durable.set()
            assert await handle.result(timeout=20) == 1
        assert watch.all("workflow.fenced") == []

    asyncio.run(run())
