"""A workflow id starts once, whoever starts it and however often, and ends in one outcome that every reader sees."""

import asyncio
from typing import Any

import pytest
from engine_room import Watch, opened, running, session, until, working

from duress.engine import Engine, sleep, step, workflow
from duress.engine.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    ValueNotSerializable,
    WorkflowCancelled,
    WorkflowConflict,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowUnfinished,
)

LATE = "x" * 1_000_000


@step
async def doubled(x: int) -> int:
    return 2 * x


@workflow(name="start: add")
async def add(a: int, b: int = 1, *, note: dict[str, Any] | None = None) -> int:
    return await doubled(a) + b


@workflow(name="start: tags")
async def tags(names: set[str], ratio: float = 1.0) -> int:
    return len(names)


@workflow(name="start: fails")
async def fails(character: int) -> None:
    raise ValueError(f"no \0 {chr(character)} good")


@workflow(name="start: echo")
async def echo(value: Any) -> Any:
    return await same(value)


@step
async def same(value: Any) -> Any:
    return value


@workflow(name="start: waits")
async def waits(seconds: float) -> str:
    await sleep(seconds)
    return "woke"


def test_twenty_starters_of_one_id_start_one_workflow(database: str) -> None:
    async def run() -> None:
        async with opened(database) as first, Engine(database) as second, session(database) as sql:
            handles = await asyncio.gather(*((first, second)[n % 2].start("one", add, 20) for n in range(20)))
            assert len({await handle.number() for handle in handles}) == 1
            assert await sql.one("select count(*) from duress.workflow") == 1
            assert await sql.one("select count(*) from duress.live") == 1
            async with working(first):
                assert {await handle.result(timeout=9) for handle in handles} == {41}
            assert await (await second.start("one", add, 20)).result(timeout=9) == 41  # also when it has ended
            assert await sql.one("select count(*) from duress.checkpoint") == 1

    asyncio.run(run())


def test_another_name_or_input_is_a_conflict_and_changes_nothing(database: str) -> None:
    async def run() -> None:
        async with opened(database) as engine, session(database) as sql:
            await engine.start("one", add, 1)
            with pytest.raises(WorkflowConflict, match="'start: add', not to a 'start: waits'"):
                await engine.start("one", waits, 1.0)
            for args, kwargs in (((2,), {}), ((1, 1), {}), ((1,), {"note": {}}), ((1,), {"note": None})):
                with pytest.raises(WorkflowConflict, match="another input"):
                    await engine.start("one", add, *args, **kwargs)
            results = await asyncio.gather(
                *(engine.start("two", add, n % 2) for n in range(10)), return_exceptions=True
            )
            assert sum(isinstance(result, WorkflowConflict) for result in results) == 5
            assert await sql.one("select count(*) from duress.workflow") == 2

    asyncio.run(run())


def test_the_order_of_keys_and_of_sets_is_no_other_input(database: str) -> None:
    async def run() -> None:
        async with opened(database) as engine, session(database) as sql:
            await engine.start("keys", add, 1, 1, note={"a": {"x": 1, "y": 2}, "b": 2})
            await engine.start("keys", add, b=1, a=1, note={"b": 2, "a": {"y": 2, "x": 1}})
            with pytest.raises(WorkflowConflict):
                await engine.start("keys", add, 1, 1, note={"a": {"x": True, "y": 2}, "b": 2})
            await engine.start("sets", tags, {"a", "b", "c"}, 2)
            # As a process with another hash seed would have written it.
            await sql.all(
                """update duress.workflow set input = '{"names":["b","c","a"],"ratio":2.0}' where id = 'sets'"""
            )
            await engine.start("sets", tags, {"a", "b", "c"}, 2)

    asyncio.run(run())


def test_results_of_every_kind_are_the_same_for_every_reader(database: str) -> None:
    async def run() -> None:
        async with running(database) as engine, Engine(database) as other:
            good, bad = await engine.start("good", add, 1, 2), await engine.start("bad", fails, 0xD800)
            for reader in (good, other.handle("good"), engine.handle("good")):
                assert await reader.result(timeout=9) == 4
                assert await reader.status() == "succeeded"
            for failed in (bad, other.handle("bad")):
                with pytest.raises(WorkflowFailed) as caught:
                    await failed.result(timeout=9)
                assert caught.value.type == "ValueError"
                assert caught.value.message == ascii("no \0 \ud800 good")
            assert [summary.id for summary in await other.list(status="failed")] == ["bad"]

    asyncio.run(run())


def test_a_result_that_is_late_does_not_harm_the_workflow(database: str) -> None:
    async def run() -> None:
        async with running(database, work={"suspend_after": 0.1}) as engine, session(database) as sql:
            handle = await engine.start("late", waits, 3600)
            with pytest.raises(WorkflowUnfinished, match="goes on"):
                await handle.result(timeout=0.05)
            await sql.until("select owner is null and ready_at > now() from duress.live")
            assert await handle.status() == "sleeping"
            await sql.all("update duress.live set ready_at = now()")
            await sql.all("update duress.checkpoint set value = '1.5'")
            assert await handle.result(timeout=9) == "woke"

    asyncio.run(run())


def test_cancelling_wins_once_over_whatever_the_workflow_does(database: str) -> None:
    async def run() -> None:
        watch = Watch()
        async with running(database, observer=watch) as engine, session(database) as sql:
            hold = watch.hold("step.checkpointing", workflow="running")
            running_one = await engine.start("running", add, 1)
            await hold.wait()
            assert await engine.cancel("running") == "cancelled"
            assert await engine.cancel("running") == "cancelled"
            hold.release()
            with pytest.raises(WorkflowCancelled):
                await running_one.result(timeout=9)
            assert not watch.all("step.checkpointed", workflow="running")
            done = await engine.start("done", add, 1)
            await done.result(timeout=9)
            assert await engine.cancel("done") == "succeeded"
            asleep = await engine.start("asleep", waits, 3600)
            await sql.until("select ready_at > now() from duress.live")
            assert await engine.cancel("asleep") == "cancelled"
            assert await asleep.status() == "cancelled"
            assert await sql.one("select count(*) from duress.live") == 0

    asyncio.run(run())


def test_a_hundred_cancels_against_completion_have_one_winner_each(database: str) -> None:
    async def run() -> None:
        async with running(database) as engine, session(database) as sql:
            handles = [await engine.start(f"w{n}", add, n) for n in range(100)]
            answers = await asyncio.gather(*(engine.cancel(handle.id) for handle in handles))
            await sql.until("select count(*) from duress.live", is_=0)
            assert answers == [await handle.status() for handle in handles]
            assert set(answers) <= {"cancelled", "succeeded"}

    asyncio.run(run())


def test_unicode_and_a_megabyte_pass_everywhere(database: str) -> None:
    value = {"ключ\0": ["\0", "世界 \U0001f600", LATE, '\\"{}'], "": None}
    id_ = "заказ 世界 \U0001f600 '\"\\{}%s"

    async def run() -> None:
        async with opened(database) as engine:
            handle = await engine.on("очередь \U0001f600").start(id_, echo, value)
            async with working(engine, queues=["очередь \U0001f600"], name="работник 'ü\""):
                assert await handle.result(timeout=9) == value
            assert (await engine.show(id_)).summary.id == id_
            assert await engine.handle(id_).result(timeout=9) == value
            with pytest.raises(WorkflowConflict):
                await engine.on("очередь \U0001f600").start(id_, echo, {**value, "": 1})

    asyncio.run(run())


@pytest.mark.parametrize("id_", ["", "a\0b", "\ud800", "x" * 513])
def test_an_id_that_cannot_be_stored_is_refused(database: str, id_: str) -> None:
    async def run() -> None:
        async with opened(database) as engine:
            with pytest.raises(ConfigurationError, match="workflow id"):
                await engine.start(id_, add, 1)
            for look in (engine.cancel, engine.show, lambda other: engine.handle(other).result(timeout=9)):
                with pytest.raises(WorkflowNotFound):
                    await look(id_)

    asyncio.run(run())


def test_bad_arguments_are_refused_by_name_and_store_nothing(database: str) -> None:
    async def run() -> None:
        async with opened(database) as engine, session(database) as sql:
            with pytest.raises(ValueNotSerializable, match=r"input of workflow 'start: echo'.*\['value'\]\[1\]"):
                await engine.start("nan", echo, [1, float("inf")])
            with pytest.raises(ValueNotSerializable, match="parameter 'a'"):
                await engine.start("type", add, "one")  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await engine.start("many", add, 1, 2, 3)  # type: ignore[call-arg, arg-type]
            with pytest.raises(TypeError, match="@workflow"):
                await engine.start("step", doubled, 1)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="queue"):
                engine.on("a\0")
            with pytest.raises(ConfigurationError, match="status"):
                await engine.list(status="open")
            assert await sql.one("select count(*) from duress.workflow") == 0

    asyncio.run(run())


@pytest.mark.parametrize("dsn", ["postgresql://nobody:hunter2@127.0.0.1:1/x", "host=/nowhere password=hunter2", "??"])
def test_a_dsn_that_does_not_answer_is_named_without_its_password(dsn: str) -> None:
    async def run() -> None:
        with pytest.raises(DatabaseUnavailable, match="cannot connect") as caught:
            async with Engine(dsn):
                pass
        assert "hunter2" not in str(caught.value)

    asyncio.run(run())


def test_whoever_waits_from_another_process_hears_within_a_poll(database: str) -> None:
    async def run() -> None:
        async with opened(database) as worker, Engine(database) as client, session(database) as sql:
            handle = await client.start("one", add, 1)
            waiting = asyncio.create_task(handle.result(timeout=9))
            await sql.until("select awaited from duress.workflow")
            # The client's listening session goes, so that no notification reaches it.
            await sql.all(
                "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%%' and pid <> pg_backend_pid()"
            )
            loop = asyncio.get_running_loop()
            async with working(worker):
                await sql.until("select count(*) from duress.live", is_=0)
                done = loop.time()
                assert await waiting == 3
                assert loop.time() - done < 1.5

    asyncio.run(run())


def test_many_waiters_of_one_workflow_leave_nothing_behind(database: str) -> None:
    async def run() -> None:
        async with running(database) as engine:
            handle = await engine.start("one", waits, 0.2)
            waiting = [asyncio.create_task(handle.result(timeout=9)) for _ in range(20)]
            await asyncio.sleep(0)
            for task in waiting[:10]:
                task.cancel()
            assert await asyncio.gather(*waiting[10:]) == ["woke"] * 10
            await until(lambda: not engine._outcomes._waiting)

    asyncio.run(run())
