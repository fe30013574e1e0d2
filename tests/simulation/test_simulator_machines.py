"""Each simulated process is as on a machine of its own: clock, randomness, names, signals; and what is outside of all."""

import asyncio
import atexit
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from stage import forever, play

from duress.simulator.errors import Escape, SimulationError, Stuck
from duress.simulator.life import End
from duress.simulator.loop import SimLoop
from duress.simulator.process import SimProcess
from duress.simulator.scheduler import RandomWalk
from duress.simulator.world import simulated


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


FINALIZERS = """
import weakref
from stage import play

class Thing:
    pass

said = []

async def main():
    weakref.finalize(Thing(), said.append, "in the run")

async def program(loop):
    await loop.spawn_process("one", main).ended()

play(program)
weakref.finalize(Thing(), said.append, "after it")
print(said)
"""


def test_finalizers_work_for_as_long_as_the_real_process_lives() -> None:
    """The first one registers with atexit, whose functions are called when a simulated process ends."""
    done = subprocess.run(
        [sys.executable, "-c", FINALIZERS], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.stdout == "['in the run', 'after it']\n", done.stderr
