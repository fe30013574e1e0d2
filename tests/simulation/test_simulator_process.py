"""A simulated process lives, is paused and dies as a real one: killed, it runs nothing any more, whatever it had prepared."""

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from stage import forever, play

from duress.simulator.errors import SimulationError, Stuck
from duress.simulator.life import End
from duress.simulator.loop import SimLoop
from duress.simulator.scheduler import RandomWalk
from duress.simulator.world import simulated


class Wire:
    """A resource that says what became of it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def process_died(self) -> None:
        self.said.append("died")

    def host_cut_off(self) -> None:
        self.said.append("cut off")


def test_a_killed_process_runs_nothing_any_more() -> None:
    ran: list[str] = []

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ran.append("async generator")

    async def child(loop: SimLoop) -> None:
        try:
            await asyncio.sleep(10)
        except BaseException:
            ran.append("except")
            raise
        finally:
            ran.append("finally")

    async def alone(loop: SimLoop) -> None:
        try:
            await loop.create_future()
        finally:
            ran.append("alone")

    async def program(loop: SimLoop) -> None:
        outside: asyncio.Future[None] = loop.create_future()
        outside.add_done_callback(lambda _: ran.append("outside goes on"))

        async def main() -> None:
            children = [asyncio.create_task(child(loop)) for _ in range(3)]
            items = generator()
            await anext(items)
            asyncio.create_task(alone(loop))  # noqa: RUF006  # only what it waits for refers to it, and the other way round
            loop.call_later(1, ran.append, "timer")
            asyncio.create_task(child(loop)).add_done_callback(lambda _: ran.append("callback"))
            try:
                async with asyncio.timeout(20):
                    await asyncio.gather(*children, asyncio.shield(outside))
            finally:
                ran.append("main")

        process = loop.spawn_process("victim", main)
        await asyncio.sleep(0.5)
        process.kill()
        assert await process.ended() == End("killed")
        outside.set_result(None)
        await asyncio.sleep(100)
        del main, process
        gc.collect()

    play(program)
    gc.collect()
    assert ran == ["outside goes on"]


def test_what_was_ready_when_it_was_killed_does_not_run() -> None:
    async def program(loop: SimLoop) -> list[int]:
        steps: list[int] = []

        async def main() -> None:
            for number in range(100):
                loop.call_soon(steps.append, number)
                steps.append(number)
                await asyncio.sleep(0)

        process = loop.spawn_process("victim", main)
        while len(steps) < 9:  # noqa: ASYNC110  # step by step, to kill it in the middle
            await asyncio.sleep(0)
        process.kill()
        length = len(steps)
        await asyncio.sleep(1)
        assert length == len(steps)
        return steps

    for seed in range(5):
        assert play(program, seed=seed, scheduler=RandomWalk()).result


def test_not_even_the_interpreters_end_runs_a_finally() -> None:
    code = """
        import asyncio
        from duress.simulator.loop import SimLoop
        from duress.simulator.world import simulated

        async def main():
            try:
                await asyncio.sleep(10)
            finally:
                print("finally")

        async def program():
            process = loop.spawn_process("victim", main)
            await asyncio.sleep(1)
            process.kill()

        loop = SimLoop()
        with simulated(loop):
            loop.run_until_complete(program())
        loop.close()
        print("end")
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("end\n", "")


def test_a_process_that_kills_itself_ends_with_the_step_it_is_in() -> None:
    ran: list[str] = []

    async def program(loop: SimLoop) -> End:
        async def main() -> None:
            process = loop.process
            assert process is not None
            try:
                assert not process.dying
                process.kill()
                assert process.dying
                ran.append("same step")
                await process.never()
            finally:
                ran.append("finally")

        return await loop.spawn_process("victim", main).ended()

    assert play(program).result == End("killed")
    assert ran == ["same step"]


def test_the_timers_of_a_killed_process_hold_nobody_up() -> None:
    async def program(loop: SimLoop) -> None:
        process = loop.spawn_process("victim", lambda: asyncio.sleep(1_000))
        await asyncio.sleep(1)
        process.kill()
        await loop.create_future()

    loop = SimLoop()
    with simulated(loop), pytest.raises(Stuck):
        loop.run_until_complete(program(loop))
    assert loop.clock.now == 10**9
    loop.close()


def test_blocking_calls_add_up_and_resuming_does_not_shorten_them() -> None:
    async def program(loop: SimLoop) -> list[int]:
        moments = []

        async def main() -> None:
            time.sleep(1)  # noqa: ASYNC251  # that is what the test is about
            time.sleep(2)  # noqa: ASYNC251
            await asyncio.sleep(0)
            moments.append(loop.clock.now // 10**9)

        process = loop.spawn_process("blocked", main)
        await asyncio.sleep(2)
        process.pause()
        process.resume()
        await process.ended()
        return moments

    assert play(program).result == [3]


def test_a_process_that_is_paused_while_a_call_blocks_it_waits_for_both() -> None:
    async def program(loop: SimLoop) -> list[float]:
        woke = []

        async def main() -> None:
            time.sleep(2)  # noqa: ASYNC251  # that is what the test is about
            woke.append(time.time() - 1_900_000_000)
            await asyncio.sleep(0)
            woke.append(time.time() - 1_900_000_000)

        process = loop.spawn_process("blocked", main)
        await asyncio.sleep(1)
        process.pause()
        await asyncio.sleep(5)
        assert woke == [2]
        process.resume()
        await process.ended()
        return woke

    assert play(program).result == [2, 6]


@pytest.mark.parametrize(("how", "said"), [("kill", "died"), ("cut_off", "cut off")])
def test_its_connections_learn_how_it_ended(how: str, said: str) -> None:
    async def program(loop: SimLoop) -> tuple[Wire, Wire]:
        kept, closed = Wire(), Wire()

        async def main() -> None:
            assert loop.process is not None
            loop.process.attach(kept)
            loop.process.attach(closed)
            loop.process.detach(closed)
            await forever()

        process = loop.spawn_process("victim", main)
        await asyncio.sleep(1)
        getattr(process, how)()
        return kept, closed

    kept, closed = play(program).result
    assert (kept.said, closed.said) == ([said], [])


def test_a_main_that_returns_or_raises_ends_the_process_as_asyncio_run_does() -> None:
    ran: list[str] = []

    async def program(loop: SimLoop) -> list[Any]:
        async def child() -> None:
            try:
                await forever()
            finally:
                ran.append("child cancelled")

        async def returns() -> None:
            loop.call_later(1, ran.append, "timer of a dead process")
            asyncio.create_task(child())  # noqa: RUF006  # left over on purpose
            await asyncio.sleep(0)

        async def raises() -> None:
            raise ValueError("x")

        wire = Wire()
        first = loop.spawn_process("first", returns)
        first.attach(wire)
        ends = [await first.ended(), await loop.spawn_process("second", raises).ended()]
        await asyncio.sleep(10)
        return [*((end.how, repr(end.error)) for end in ends), wire.said, first.alive]

    assert play(program).result == [("returned", "None"), ("raised", "ValueError('x')"), ["died"], False]
    assert ran == ["child cancelled"]


def test_a_paused_process_does_nothing_until_it_is_resumed() -> None:
    async def program(loop: SimLoop) -> list[Any]:
        seen: list[Any] = []
        messages: asyncio.Queue[str] = asyncio.Queue()

        async def reads() -> None:
            while True:
                seen.append((loop.time(), await messages.get()))

        async def main() -> None:
            loop.call_later(1, lambda: seen.append((loop.time(), "timer 1")))
            loop.call_later(2, lambda: seen.append((loop.time(), "timer 2")))
            await reads()

        process = loop.spawn_process("sleeper", main)
        await asyncio.sleep(0.5)
        process.pause()
        assert process.paused
        messages.put_nowait("kept")
        await asyncio.sleep(4.5)
        assert seen == []
        process.resume()
        process.resume()
        await asyncio.sleep(1)
        messages.put_nowait("after")
        await asyncio.sleep(1)
        return seen

    for scheduler in (None, RandomWalk()):
        seen = play(program, scheduler=scheduler).result
        # A read begins when the last one has ended: "kept" was asked for at 0 and delivered after the pause.
        assert sorted(seen, key=str) == [(0.0, "kept"), (5.0, "after"), (5.0, "timer 1"), (5.0, "timer 2")]
        assert seen.index((5.0, "timer 1")) < seen.index((5.0, "timer 2"))


def test_a_process_can_be_killed_while_it_is_paused() -> None:
    async def program(loop: SimLoop) -> End:
        process = loop.spawn_process("victim", forever)
        await asyncio.sleep(0)
        process.pause()
        await asyncio.sleep(1)
        process.kill()
        with pytest.raises(SimulationError, match="cannot resume process 'victim': it has ended"):
            process.resume()
        return await process.ended()

    assert play(program).result == End("killed")


def test_stop_calls_what_the_program_gave_or_else_cancels_its_main() -> None:
    async def program(loop: SimLoop) -> list[str]:
        seen: list[str] = []

        async def cancelled() -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                await asyncio.sleep(1)
                seen.append("cancelled")

        async def told() -> None:
            event = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, event.set)
            await event.wait()
            seen.append("told")

        given, given_later = asyncio.Event(), asyncio.Event()

        async def waits(event: asyncio.Event = given) -> None:
            await event.wait()
            assert loop.process is not None
            seen.append(loop.process.name)

        async def waits_too() -> None:
            await waits(given_later)

        async def give_later() -> None:
            await asyncio.sleep(1)
            given_later.set()

        processes = [
            loop.spawn_process("a", cancelled),
            loop.spawn_process("b", told),
            loop.spawn_process("c", waits, stopping=given.set),
            loop.spawn_process("d", waits_too, stopping=give_later),
        ]
        await asyncio.sleep(1)
        for process in processes:
            process.stop()
            assert (await process.ended()).how == "returned"
        return seen

    assert play(program).result == ["cancelled", "told", "c", "d"]


def test_a_restart_is_another_incarnation_with_nothing_of_the_last() -> None:
    async def program(loop: SimLoop) -> list[Any]:
        seen: list[Any] = []

        async def main() -> None:
            process = loop.process
            assert process is not None
            life = (process.incarnation, os.getpid(), random.random())
            while True:
                await asyncio.sleep(1)
                seen.append(life)

        process = loop.spawn_process("phoenix", main)
        await asyncio.sleep(1.5)
        process.restart()
        await asyncio.sleep(1.2)
        process.kill()
        process.restart()
        assert process.alive
        await asyncio.sleep(1.2)
        assert process.incarnation == 3
        return seen

    seen = play(program).result
    assert [incarnation for incarnation, _, _ in seen] == [1, 2, 3]
    assert len(set(seen)) == len({pid for _, pid, _ in seen}) == len({number for _, _, number in seen}) == 3


def test_a_restart_of_itself_waits_for_the_step_to_end() -> None:
    async def program(loop: SimLoop) -> list[int]:
        seen: list[int] = []

        async def main() -> None:
            process = loop.process
            assert process is not None
            seen.append(process.incarnation)
            if process.incarnation < 3:
                process.restart()
            await process.never()

        process = loop.spawn_process("phoenix", main)
        await asyncio.sleep(1)
        return [*seen, process.incarnation]

    assert play(program).result == [1, 2, 3, 3]
