"""A plain step's outcome, result or exception, is recorded once and is the same when it happens and at every replay."""

import asyncio
import threading
import time
from typing import Any

import pytest
from engine_room import Watch, opened, running, session, working

from duress.engine import Retry, current, durable_error, sleep, step, workflow
from duress.engine.errors import NotInWorkflow, StepFailed, WorkflowFailed

ran: list[tuple[str, int, str]] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@durable_error
class Declined(Exception):
    pass


@durable_error
class Odd(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__("only one of its arguments")


class Stop(BaseException):
    pass


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


async def cancelled() -> None:
    task = asyncio.ensure_future(asyncio.sleep(9))
    task.cancel()
    await task


@step
async def raises(what: str) -> int:
    context = current()
    ran.append((what, context.attempt, context.idempotency_key))
    match what:
        case "declined":
            raise Declined("card", {"ключ": [1, None]})
        case "odd":
            raise Odd("a", "b")
        case "unprintable":
            raise Declined(Unprintable())
        case "exit":
            raise SystemExit(3)
        case "stop":
            raise Stop("base")
        case "cancelled":
            await cancelled()
        case "nan":
            return float("nan")  # type: ignore[return-value]
        case "wrong":
            return "text"  # type: ignore[return-value]
        case "object":
            return object()  # type: ignore[return-value]
        case "inner":
            await raises("declined")  # inside a body it is the plain function
    raise ValueError(f"{what} \0 {chr(0xDFFF)}")


@workflow(name="steps: outcome")
async def outcome(what: str, pause: float) -> list[str]:
    """How the step's failure looks, before and after a suspension: the second time from the record."""
    found = []
    try:
        await raises(what)
    except (Declined, StepFailed) as error:
        found = [type(error).__name__, str(error), repr(error.args)]
    await sleep(pause)
    return found


EXPECTED = {
    "declined": ["Declined", "('card', {'ключ': [1, None]})", "('card', {'ключ': [1, None]})"],
    "inner": ["Declined", "('card', {'ключ': [1, None]})", "('card', {'ключ': [1, None]})"],
    "odd": ["StepFailed", "Odd: only one of its arguments", "('Odd', 'only one of its arguments')"],
    "exit": ["StepFailed", "SystemExit: 3", "('SystemExit', '3')"],
    "stop": ["StepFailed", "Stop: base", "('Stop', 'base')"],
    "unprintable": [
        "StepFailed",
        "Declined: '(its message could not be made: ValueError)'",
        "('Declined', \"'(its message could not be made: ValueError)'\")",
    ],
    "cancelled": ["StepFailed", "CancelledError: ", "('CancelledError', '')"],
}


@pytest.mark.parametrize("what", [*EXPECTED, "nan", "wrong", "object", "text"])
def test_a_failure_is_the_same_when_it_happens_and_when_it_is_replayed(database: str, what: str) -> None:
    async def run() -> None:
        async with running(database, work={"suspend_after": 0.2}) as engine:
            first = await (await engine.start("first", outcome, what, 0.0)).result(timeout=9)
            again = await (await engine.start("again", outcome, what, 0.25)).result(timeout=9)
            assert first == again
            assert first == EXPECTED.get(what, first)
            if what in ("nan", "wrong", "object"):
                assert first[1].startswith("ValueNotSerializable: the result of step 'raises'")
            assert [attempt for _, attempt, _ in ran if attempt != 1] == []
            assert {key for _, _, key in ran} == {"first:1", "again:1"}
            assert (await engine.show("again")).summary.epoch == 2  # it was replayed indeed

    asyncio.run(run())


@step(retry=Retry(attempts=4, initial=0.01, jitter=0, on=(ConnectionError,)))
async def unsteady(failures: int, fatal: bool = False) -> int:
    context = current()
    ran.append(("unsteady", context.attempt, context.idempotency_key))
    if context.attempt <= failures:
        raise ConnectionResetError("again")
    if fatal:
        raise ValueError("not to be tried again")
    return context.attempt


@workflow(name="steps: retries")
async def retries(failures: int, fatal: bool = False) -> int:
    return await unsteady(failures, fatal)


def test_attempts_share_one_key_and_end_with_success_or_the_last_failure(database: str) -> None:
    async def run() -> None:
        watch = Watch()
        async with running(database, observer=watch) as engine, session(database) as sql:
            assert await (await engine.start("ok", retries, 2)).result(timeout=9) == 3
            with pytest.raises(WorkflowFailed, match="ConnectionResetError"):
                await (await engine.start("ко\U0001f600", retries, 9)).result(timeout=9)
            with pytest.raises(WorkflowFailed, match="not to be tried"):
                await (await engine.start("fatal", retries, 1, True)).result(timeout=9)
            assert [key for _, _, key in ran] == ["ok:1"] * 3 + ["ко\U0001f600:1"] * 4 + ["fatal:1"] * 2
            assert await sql.one("select count(*) from duress.checkpoint") == 3
            assert len(watch.all("step.started")) == len(watch.all("step.ended")) == 9

    asyncio.run(run())


@step(timeout=0.05, retry=Retry(attempts=2, initial=0))
async def slow(own: bool) -> None:
    ran.append(("slow", current().attempt, ""))
    if own:
        raise TimeoutError("the body's own")
    await asyncio.sleep(9)


@step(timeout=0.05)
def slow_thread() -> None:
    time.sleep(0.2)


@workflow(name="steps: slow")
async def slowly(how: str) -> None:
    if how == "thread":
        await slow_thread()
    await slow(how == "own")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("body", "StepTimeout: step 'slow' took longer than its 0.05 s"),
        ("own", "TimeoutError: the body's own"),
        ("thread", "StepTimeout: step 'slow_thread' took"),
    ],
)
def test_a_timeout_is_a_failure_with_a_name(database: str, how: str, message: str) -> None:
    async def run() -> None:
        async with running(database) as engine:
            with pytest.raises(WorkflowFailed, match=message):
                await (await engine.start("one", slowly, how)).result(timeout=9)
            assert [attempt for _, attempt, _ in ran] == ([] if how == "thread" else [1, 2])

    asyncio.run(run())


@step
def in_thread(what: str) -> str:
    if what == "stop":
        next(iter(()))
    return f"{current().idempotency_key} {threading.current_thread() is threading.main_thread()}"


@step
def waits_for_another(barrier: int) -> bool:
    meeting.wait(timeout=9)
    return True


meeting = threading.Barrier(2)


@workflow(name="steps: threads")
async def threads(what: str) -> Any:
    if what == "together":
        return await asyncio.gather(waits_for_another(1), waits_for_another(2))
    return await in_thread(what)


def test_plain_functions_run_in_threads_beside_the_loop(database: str) -> None:
    async def run() -> None:
        async with running(database) as engine:
            assert await (await engine.start("one", threads, "key")).result(timeout=9) == "one:1 False"
            assert await (await engine.start("two", threads, "together")).result(timeout=9) == [True, True]
            with pytest.raises(WorkflowFailed, match="RuntimeError: step 'in_thread' raised StopIteration"):
                await (await engine.start("three", threads, "stop")).result(timeout=9)

    asyncio.run(run())


@step
async def nested() -> str:
    with pytest.raises(NotInWorkflow):
        await sleep(1)
    task = asyncio.create_task(plain_child())
    return await task


async def plain_child() -> str:
    return await named("inside")


@step
async def named(name: str) -> str:
    ran.append((name, 1, current().step_id))
    return name


@workflow(name="steps: nested")
async def nests() -> str:
    await asyncio.sleep(0)  # plain code between steps
    async with asyncio.timeout(9), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
    first = await nested()
    return first + await named("outside")


def test_a_steps_own_tasks_and_calls_are_not_recorded(database: str) -> None:
    async def run() -> None:
        async with running(database) as engine:
            assert await (await engine.start("one", nests)).result(timeout=9) == "insideoutside"
            recorded = [(one.step, one.name) for one in (await engine.show("one")).checkpoints]
            assert recorded == [("1", "nested"), ("2", "named")]
            assert ran == [("inside", 1, "1"), ("outside", 1, "2")]

    asyncio.run(run())


@workflow(name="steps: broken")
async def broken(how: str) -> Any:
    match how:
        case "stop":
            raise Stop("x")
        case "exit":
            raise SystemExit
        case "cancelled":
            await cancelled()
        case "object":
            return object()
        case "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(raises("value"))
    return None


@pytest.mark.parametrize(
    ("how", "type_"),
    [
        ("stop", "Stop"),
        ("exit", "SystemExit"),
        ("cancelled", "CancelledError"),
        ("object", "ValueNotSerializable"),
        ("group", "ExceptionGroup"),
    ],
)
def test_whatever_a_workflow_raises_is_its_outcome_and_the_worker_lives_on(database: str, how: str, type_: str) -> None:
    async def run() -> None:
        async with running(database) as engine:
            with pytest.raises(WorkflowFailed) as caught:
                await (await engine.start("one", broken, how)).result(timeout=9)
            assert caught.value.type == type_
            assert await (await engine.start("next", nests)).result(timeout=9) == "insideoutside"

    asyncio.run(run())


def test_an_exception_of_a_body_is_a_stepfailed_with_its_name(database: str) -> None:
    async def run() -> None:
        async with opened(database) as engine, working(engine):
            assert issubclass(StepFailed, Exception)
            first = await (await engine.start("one", outcome, "text", 0.0)).result(timeout=9)
            assert first[0] == "StepFailed"
            assert first[1].startswith("ValueError: ")

    asyncio.run(run())
