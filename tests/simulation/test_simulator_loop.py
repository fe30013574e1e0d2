"""What programs expect of any asyncio loop, they get from the simulated one."""

import asyncio
import concurrent.futures
import contextvars
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from stage import play

from duress.simulator.choices import Choices
from duress.simulator.errors import Escape, Stuck
from duress.simulator.loop import SimLoop
from duress.simulator.refused import REFUSED
from duress.simulator.world import simulated

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_years_pass_at_once() -> None:
    async def program(loop: SimLoop) -> float:
        await asyncio.sleep(10 * 365 * 86400)
        return loop.time()

    begun = time.monotonic()
    assert play(program).result == 10 * 365 * 86400
    assert time.monotonic() - begun < 5


def test_functions_for_threads_run_inline_in_a_copy_of_the_context() -> None:
    async def program(loop: SimLoop) -> list[Any]:
        def function(number: int) -> tuple[int, str]:
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            seen = variable.get()
            variable.set("by the function")
            return number, seen

        variable.set("by the program")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            results = [
                await asyncio.to_thread(function, 1),
                await loop.run_in_executor(None, function, 2),
                await loop.run_in_executor(pool, function, 3),
            ]
        return [*results, variable.get()]

    seen = "by the program"
    assert play(program).result == [(1, seen), (2, seen), (3, seen), seen]


def test_a_function_that_sleeps_in_a_thread_holds_nobody_up() -> None:
    async def program(loop: SimLoop) -> list[Any]:
        def function() -> float:
            time.sleep(5)
            return time.monotonic()

        order: list[Any] = []

        async def other() -> None:
            await asyncio.sleep(1)
            order.append(("other", loop.time()))

        async def waits() -> None:
            order.append(("thread", await asyncio.to_thread(function), loop.time()))

        await asyncio.gather(waits(), other())
        return order

    assert play(program).result == [("other", 1.0), ("thread", 5.0, 5.0)]


def test_what_a_function_raises_arrives() -> None:
    async def program(loop: SimLoop) -> list[str]:
        def fails(error: BaseException) -> None:
            raise error

        names = []
        for error in (ValueError("x"), StopIteration(), SystemExit(3)):
            try:
                await asyncio.to_thread(fails, error)
            except BaseException as caught:  # noqa: BLE001  # whichever it is
                names.append(type(caught).__name__)
        return names

    assert play(program).result == ["ValueError", "RuntimeError", "SystemExit"]


def test_after_the_executor_is_shut_down_nothing_goes_there() -> None:
    async def program(loop: SimLoop) -> None:
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="shutdown"):
            await asyncio.to_thread(print)

    play(program)


def test_an_unhandled_error_goes_to_the_exception_handler() -> None:
    async def program(loop: SimLoop) -> list[str]:
        seen: list[str] = []
        loop.set_exception_handler(lambda _, context: seen.append(str(context["exception"])))

        async def fails() -> None:
            raise ValueError("nobody asks")

        task = asyncio.create_task(fails())
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        del task
        gc.collect()
        return seen

    assert play(program).result == ["division by zero", "nobody asks"]


def test_debug_mode_names_who_blocks_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    async def program(loop: SimLoop) -> None:
        loop.set_debug(True)
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251  # that is what the test is about
        with pytest.raises(TypeError):
            loop.call_soon(program)

    with caplog.at_level(logging.WARNING, "asyncio"):
        play(program)
    assert "took 0.500 seconds" in caplog.text


def test_async_generators_are_closed_in_the_end() -> None:
    closed: list[str] = []

    async def generator(name: str) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(name)

    async def program(loop: SimLoop) -> None:
        async for _ in generator("dropped"):
            break
        await asyncio.sleep(1)
        assert closed == ["dropped"]
        kept = generator("kept")
        await anext(kept)
        await loop.shutdown_asyncgens()

    play(program)
    assert closed == ["dropped", "kept"]


def test_stop_lets_the_round_end() -> None:
    order: list[str] = []
    loop = SimLoop()
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: (order.append("same round"), loop.call_soon(order.append, "next round")))
    loop.run_forever()
    assert order == ["same round"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == ["same round", "next round"]
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)


def test_a_task_factory_is_asked() -> None:
    async def program(loop: SimLoop) -> list[str]:
        made: list[str] = []

        def factory(loop: Any, coro: Any, **options: Any) -> Any:
            made.append(coro.__name__)
            return asyncio.Task(coro, loop=loop, **options)

        async def child() -> None:
            await asyncio.sleep(1)

        loop.set_task_factory(factory)
        await asyncio.create_task(child())
        return made

    assert play(program).result == ["child"]


def test_tasks_and_futures_made_without_the_loop_are_numbered_too() -> None:
    before = asyncio.Task, asyncio.Future

    async def program(loop: SimLoop) -> list[int]:
        made: list[Any] = [asyncio.Future(), asyncio.Task(asyncio.sleep(0)), asyncio.create_task(asyncio.sleep(0))]
        made.append(asyncio.gather(*made[1:]))
        assert all(isinstance(one, asyncio.Future) for one in made)
        assert [isinstance(one, asyncio.Task) for one in made] == [False, True, True, False]
        assert issubclass(asyncio.Task, asyncio.Future)
        await made[-1]

        class Own(asyncio.Task[Any]):
            pass

        assert not isinstance(made[1], Own)
        assert isinstance(Own(asyncio.sleep(0)), Own)
        return [hash(one) for one in made[:3]]

    assert play(program).result == play(program).result == [2, 3, 4]
    assert before == (asyncio.Task, asyncio.Future)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_start_at_once() -> None:
    async def program(loop: SimLoop) -> list[str]:
        order = []

        async def child() -> None:
            order.append("child")
            await asyncio.sleep(1)

        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        task = asyncio.create_task(child())
        order.append("parent")
        await task
        return order

    assert play(program).result == ["child", "parent"]


def test_unnamed_tasks_are_numbered_from_one_in_every_run() -> None:
    async def program(loop: SimLoop) -> str:
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        return task.get_name()

    assert play(program).result == play(program).result == "Task-2"


def test_a_pending_task_that_nobody_holds_is_not_collected() -> None:
    async def program(loop: SimLoop) -> bool:
        ended = False

        async def forgotten() -> None:
            nonlocal ended
            await loop.create_future()

        async def outer() -> None:
            nonlocal ended
            try:
                await forgotten()
            finally:
                ended = True

        asyncio.create_task(outer())  # noqa: RUF006  # that is what the test is about
        await asyncio.sleep(1)
        gc.collect()
        return ended

    assert play(program).result is False


def test_nothing_that_a_run_leaves_behind_runs_later() -> None:
    ran: list[str] = []

    async def left_over() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ran.append("finally")

    async def program(loop: SimLoop) -> None:
        asyncio.create_task(left_over())  # noqa: RUF006  # that is what the test is about
        await asyncio.sleep(1)

    play(program)
    gc.collect()
    assert ran == []


@pytest.mark.parametrize("debug", [False, True])
def test_a_task_that_is_done_is_freed_without_garbage_collection(debug: bool) -> None:
    """A run goes without it, and an error that nobody asked for is reported when its task is freed."""

    async def program(loop: SimLoop) -> list[str]:
        loop.set_debug(debug)
        seen: list[str] = []
        loop.set_exception_handler(lambda _, context: seen.append(str(context["exception"])))

        async def fails() -> None:
            raise ValueError("nobody asks")

        asyncio.create_task(fails())  # noqa: RUF006  # that is what the test is about
        await asyncio.sleep(0)
        return seen

    gc.disable()
    try:
        assert play(program).result == ["nobody asks"]
    finally:
        gc.enable()


@pytest.mark.parametrize("name", REFUSED)
def test_what_waits_for_the_real_world_is_refused_by_name(name: str) -> None:
    async def program(loop: SimLoop) -> list[str]:
        with pytest.raises(Escape, match=f"loop.{name} leaves the simulation"):
            getattr(loop, name)(1, 2, 3)
        return loop.escapes

    assert play(program).result == [f"loop.{name}"]


def test_a_run_that_is_stuck_says_where_every_task_waits() -> None:
    async def program(loop: SimLoop) -> None:
        async def waits_for_nothing() -> None:
            await asyncio.Event().wait()  # here

        await asyncio.gather(waits_for_nothing(), return_exceptions=True)

    loop = SimLoop()
    with pytest.raises(Stuck, match="nothing can run any more") as caught, simulated(loop):
        loop.run_until_complete(program(loop))
    report = "\n".join(caught.value.report)
    assert "waits_for_nothing" in report
    assert "test_simulator_loop.py" in report
    assert "`await asyncio.Event().wait()  # here`" in report
    assert "locks.py" in report


def test_a_program_that_spins_is_stopped() -> None:
    async def program(loop: SimLoop) -> None:
        while True:  # noqa: ASYNC110  # that is what the test is about
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="1,000 steps"):
        play(program, most_steps=1_000)
    with pytest.raises(Stuck, match="no time has passed"):
        play(program)


class Bell:
    """A source that rings at given times."""

    def __init__(self, *times: int) -> None:
        self.left = list(times)
        self.rung: list[int] = []
        self.moved: list[int] = []
        self.on_ring: Any = None

    def next_at(self) -> int | None:
        return self.left[0] if self.left else None

    def advance(self, now: int) -> None:
        self.moved.append(now)
        while self.left and self.left[0] <= now:
            self.rung.append(self.left.pop(0))
            if self.on_ring:
                self.on_ring()

    def describe(self) -> list[str]:
        return [f"  bell: rang {len(self.rung)} times"]


def test_time_goes_to_the_first_of_timers_and_sources() -> None:
    async def program(loop: SimLoop) -> Bell:
        bell = Bell(0, 500_000_000, 1_500_000_000)
        loop.add_source(bell)
        await asyncio.sleep(1)
        future = loop.create_future()
        bell.on_ring = lambda: future.set_result(loop.time())
        assert await future == 1.5
        return bell

    bell = play(program).result
    assert bell.rung == [0, 500_000_000, 1_500_000_000]
    assert sorted(set(bell.moved)) == [0, 500_000_000, 1_000_000_000, 1_500_000_000]


def test_a_source_has_its_say_in_the_report() -> None:
    async def program(loop: SimLoop) -> None:
        loop.add_source(Bell(10))
        await loop.create_future()

    with pytest.raises(Stuck, match="bell: rang 1 times"):
        play(program)


def test_an_endless_timer_is_no_reason_to_go_on() -> None:
    async def program(loop: SimLoop) -> None:
        await asyncio.sleep(float("inf"))

    with pytest.raises(Stuck):
        play(program)


def test_decisions_of_other_streams_are_entries_of_the_record() -> None:
    async def program(loop: SimLoop) -> int:
        return loop.choices.draw("network", 10, "latency")

    played = play(program, choices=Choices.replay({"network": [7]}))
    entry = next(entry for entry in played.loop.record.entries if entry.kind == "choice")
    assert (entry.text, entry.choice) == ("network: latency of 10", 7)
