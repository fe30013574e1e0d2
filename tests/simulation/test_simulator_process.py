"""A simulated process lives, is paused and dies as a real one: killed, it runs nothing any more, whatever it had prepared."""

import asyncio
import atexit
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from stage import play

from duress.simulator.errors import Escape, SimulationError, Stuck
from duress.simulator.life import End
from duress.simulator.loop import SimLoop
from duress.simulator.process import SimProcess
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


async def forever() -> None:
    await asyncio.Event().wait()


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


def test_a_clock_may_be_off_drift_and_jump() -> None:
    async def program(loop: SimLoop) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        async def main() -> None:
            assert loop.process is not None
            name = loop.process.name
            begun = time.time()
            seen[name] = [begun - 1_900_000_000, loop.time()]
            await asyncio.sleep(100)
            seen[f"{name} woke"] = (times() - 1_900_000_000, time.time() - begun)

        def times() -> float:
            return loop.clock.unix_us / 1e6

        loop.spawn_process("right", main)
        loop.spawn_process("fast", main, drift=0.25)
        loop.spawn_process("slow", main, drift=-0.5)
        loop.spawn_process("off", main, offset=-30)
        jumps = loop.spawn_process("jumps", main)
        await asyncio.sleep(10)
        jumps.clock_jump(3600)
        await asyncio.sleep(1000)
        return seen

    assert play(program).result == {
        "right": [0, 0],
        "fast": [0, 0],
        "slow": [0, 0],
        "off": [-30, -30],
        "jumps": [0, 0],
        "right woke": (100, 100),
        "fast woke": (80, 100),
        "slow woke": (200, 100),
        "off woke": (100, 100),
        "jumps woke": (100, 3700),
    }


def test_a_clock_that_begins_to_drift_takes_its_timers_along() -> None:
    async def program(loop: SimLoop) -> float:
        async def main() -> None:
            await asyncio.sleep(100)

        process = loop.spawn_process("drifter", main)
        await asyncio.sleep(20)
        process.set_drift(1.0)
        await process.ended()
        return loop.time()

    assert play(program).result == 60


def test_a_blocking_call_holds_up_its_own_process_only() -> None:
    async def program(loop: SimLoop) -> list[Any]:
        seen: list[Any] = []

        async def blocks() -> None:
            await asyncio.sleep(1)
            time.sleep(4.5)  # noqa: ASYNC251  # that is what the test is about
            seen.append(("same step", loop.time(), loop.clock.now // 10**9))
            await asyncio.sleep(0)
            seen.append(("next step", loop.time(), loop.clock.now // 10**9))

        async def beats() -> None:
            for _ in range(3):
                await asyncio.sleep(2)
                seen.append(("beat", loop.time()))

        async def late() -> None:
            await asyncio.sleep(2)
            seen.append(("late", loop.time()))

        async def both() -> None:
            await asyncio.gather(blocks(), late())

        loop.spawn_process("a", both)
        loop.spawn_process("b", beats)
        await asyncio.sleep(10)
        time.sleep(1)  # noqa: ASYNC251  # the harness's own call
        assert loop.time() == 11
        return seen

    assert play(program).result == [
        ("same step", 5.5, 1),
        ("beat", 2),
        ("beat", 4),
        ("next step", 5.5, 5),
        ("late", 5.5),
        ("beat", 6),
    ]


def test_each_process_has_its_own_randomness_and_names() -> None:
    async def program(loop: SimLoop) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        async def main() -> None:
            assert loop.process is not None
            seen[loop.process.name] = (uuid.uuid4(), random.random(), os.getpid(), socket.gethostname())
            # Tasks of other processes are not for it to see: it may want to cancel all there are.
            assert asyncio.all_tasks() == {asyncio.current_task()}

        one = loop.spawn_process("one", main)
        two = loop.spawn_process("two", main)
        assert (await one.ended(), await two.ended()) == (End("returned"), End("returned"))
        return seen

    first, again, other = play(program, seed=1).result, play(program, seed=1).result, play(program, seed=2).result
    assert first == again
    assert len({*first["one"], *first["two"]}) == 8
    assert first["one"][:2] != other["one"][:2]


def test_two_processes_cannot_have_one_name() -> None:
    async def program(loop: SimLoop) -> None:
        process = loop.spawn_process("worker", forever)
        assert repr(process) == "<SimProcess worker incarnation 1 running>"
        with pytest.raises(SimulationError, match="there is a process 'worker' already"):
            loop.spawn_process("worker", forever)
        with pytest.raises(ValueError, match="needs a name"):
            SimProcess(loop, "", forever)

    play(program)


def test_what_is_still_alive_when_the_loop_is_closed_is_killed() -> None:
    ran: list[str] = []

    async def program(loop: SimLoop) -> SimProcess:
        async def main() -> None:
            try:
                await forever()
            finally:
                ran.append("finally")

        process = loop.spawn_process("worker", main)
        await asyncio.sleep(1)
        return process

    process = play(program).result
    gc.collect()
    assert (process.end, ran) == (End("killed"), [])


def test_events_outside_of_processes_go_on_while_these_are_paused() -> None:
    async def program(loop: SimLoop) -> list[Any]:
        seen: list[Any] = []
        chains = {name: loop.chain(name) for name in "ab"}

        async def main() -> None:
            for name, chain in chains.items():
                for number in range(3):
                    chain.call_soon(lambda name=name, number=number: seen.append((name, number, loop.process)))
            chains["a"].call_at(2 * 10**9, lambda: seen.append(loop.clock.now))
            chains["a"].call_at(2 * 10**9, print).cancel()
            await asyncio.sleep(1)
            seen.append("never")

        process = loop.spawn_process("paused", main)
        await asyncio.sleep(0.5)
        process.pause()
        await asyncio.sleep(3)
        return seen

    orders = set()
    for seed in range(10):
        seen = play(program, seed=seed, scheduler=RandomWalk()).result
        assert seen.pop() == 2 * 10**9
        for name in "ab":
            assert [entry for entry in seen if entry[0] == name] == [(name, number, None) for number in range(3)]
        orders.add(tuple(seen))
    assert len(orders) > 3


def test_system_exit_ends_its_process_and_no_other() -> None:
    ran: list[str] = []

    async def program(loop: SimLoop) -> list[str]:
        async def main() -> None:
            sys.exit(3)

        async def exits() -> None:
            sys.exit(4)

        async def has_child() -> None:
            child = asyncio.create_task(exits())
            try:
                await forever()
            finally:
                ran.append("cleaned up")
                del child

        ends = [await loop.spawn_process(main.__name__, main).ended() for main in (main, has_child)]
        return [f"{end.how} {end.error!r}" for end in ends]

    assert play(program).result == ["raised SystemExit(3)", "raised SystemExit(4)"]
    assert ran == ["cleaned up"]


def test_what_atexit_was_given_runs_when_a_process_ends_and_not_when_it_is_killed() -> None:
    ran: list[str] = []

    async def program(loop: SimLoop) -> None:
        async def main() -> None:
            assert loop.process is not None
            atexit.register(ran.append, f"{loop.process.name} 1")
            atexit.register(ran.append, f"{loop.process.name} 2")
            await asyncio.sleep(1)

        ends, killed = loop.spawn_process("ends", main), loop.spawn_process("killed", main)
        await asyncio.sleep(0.5)
        killed.kill()
        await ends.ended()

    play(program)
    assert ran == ["ends 2", "ends 1"]


def test_a_process_signals_nobody_by_a_number_that_is_only_its_own() -> None:
    async def program(loop: SimLoop) -> list[str]:
        async def main() -> None:
            with pytest.raises(Escape, match=r"os\.kill leaves .* kill, stop or pause the simulated process"):
                os.kill(os.getpid(), signal.SIGKILL)

        assert (await loop.spawn_process("main", main).ended()).error is None
        os.kill(os.getpid(), 0)  # the harness may
        return loop.escapes

    assert play(program).result == ["os.kill"]


def test_a_process_closes_its_async_generators() -> None:
    closed: list[str] = []

    async def program(loop: SimLoop) -> None:
        async def generator(name: str) -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                assert loop.process is not None
                closed.append(f"{name} in {loop.process.name}")

        async def main() -> None:
            async for _ in generator("dropped"):
                break
            await asyncio.sleep(1)
            assert closed == ["dropped in worker"]
            for name in ("kept", "kept too"):
                kept.append(generator(name))
                await anext(kept[-1])

        kept: list[Any] = []
        await loop.spawn_process("worker", main).ended()

    play(program)
    assert closed == ["dropped in worker", "kept in worker", "kept too in worker"]


def test_events_that_come_by_a_timer_are_of_their_chain_too() -> None:
    async def program(loop: SimLoop) -> list[str]:
        chain = loop.chain("session")
        chain.call_at(5, lambda: None)
        await asyncio.sleep(1)
        return [entry.text for entry in loop.record.entries if entry.at == 5 and entry.kind == "step"]

    played = play(program)
    assert played.result == ["session#2"]


def test_an_event_that_fails_ends_the_run() -> None:
    async def program(loop: SimLoop) -> None:
        loop.chain("session").call_soon(lambda: 1 / 0)
        await forever()

    loop = SimLoop()
    with simulated(loop), pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(program(loop))
    assert isinstance(loop.failure, ZeroDivisionError)
    loop.close()


def test_the_report_of_a_stuck_run_names_paused_processes() -> None:
    async def program(loop: SimLoop) -> None:
        process = loop.spawn_process("sleeper", forever)
        await asyncio.sleep(1)
        process.pause()
        await process.ended()

    with pytest.raises(Stuck, match=r"sleeper: SimProcess._program.* waits at .*Event.*its process is paused"):
        play(program)
