"""In first-in-first-out order the simulated loop schedules exactly as asyncio does, and 0 always means that order."""

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracle
import pytest
from stage import play

from duress.simulator.choices import Choices
from duress.simulator.loop import SimLoop
from duress.simulator.scheduler import Pct, Pos, RandomWalk, Replay, Scheduler

SEEDS = range(60)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_run_as_on_asyncios_own_loop(seed: int) -> None:
    expected = oracle.run(oracle.OracleLoop(), seed)
    assert oracle.run(SimLoop(), seed) == expected
    assert len(expected) > 4


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replay_of_nothing_is_asyncios_order(seed: int) -> None:
    by_default = oracle.run(SimLoop(scheduler=RandomWalk(), choices=Choices.replay({})), seed)
    assert by_default == oracle.run(oracle.OracleLoop(), seed)


@pytest.mark.parametrize("make", [RandomWalk, Pct, Pos])
def test_a_seed_is_one_run_and_its_record_replays_it(make: type[Scheduler]) -> None:
    orders = set()
    for seed in range(15):
        choices = Choices.of_seed(seed)
        loop = SimLoop(scheduler=make(), choices=choices)
        trace = oracle.run(loop, 3)
        again = SimLoop(scheduler=make(), choices=Choices.of_seed(seed))
        assert oracle.run(again, 3) == trace
        assert again.record.hexdigest() == loop.record.hexdigest()
        replayed = SimLoop(scheduler=Replay(), choices=Choices.from_token(choices.token(whole=True)))
        assert oracle.run(replayed, 3) == trace
        assert replayed.record.hexdigest() == loop.record.hexdigest()
        orders.add(tuple(trace))
    assert len(orders) > 10  # and another seed is, as a rule, another run


def test_a_run_is_the_same_in_another_process() -> None:
    """Whatever addresses and hashes of strings are there."""
    code = """
        import logging, oracle
        from duress.simulator.choices import Choices
        from duress.simulator.loop import SimLoop
        from duress.simulator.scheduler import RandomWalk
        logging.disable()
        for seed in range(20):
            loop = SimLoop(scheduler=RandomWalk(), choices=Choices.of_seed(seed))
            oracle.run(loop, seed)
            print(loop.record.hexdigest(), len(loop.record))
    """
    said = []
    for hash_seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", textwrap.dedent(code)]
        ended = subprocess.run(command, cwd=Path(__file__).parent, env=environment, check=True, capture_output=True)
        said.append(ended.stdout)
    assert said[0] == said[1] == said[2]
    assert len(set(said[0].splitlines())) == 20


def test_timers_of_one_moment_go_in_the_order_in_which_they_were_set() -> None:
    async def program(loop: SimLoop) -> list[int]:
        order: list[int] = []
        for number in range(20):
            loop.call_at(1.0 if number % 2 else 2.0, order.append, number)
        await asyncio.sleep(3)
        return order

    assert play(program).result == [*range(1, 20, 2), *range(0, 20, 2)]


def test_a_callback_without_delay_waits_for_the_next_round() -> None:
    async def program(loop: SimLoop) -> list[str]:
        order: list[str] = []
        loop.call_later(0, order.append, "later")
        loop.call_soon(lambda: loop.call_soon(order.append, "soon, soon"))
        loop.call_soon(order.append, "soon")
        await asyncio.sleep(0.001)
        return order

    assert play(program).result == ["soon", "later", "soon, soon"]


def test_no_timer_goes_before_its_time() -> None:
    """A program that sleeps for what is left must get on, however little is left."""

    async def program(loop: SimLoop) -> int:
        before = loop.time()
        await asyncio.sleep(1e-10)
        assert loop.time() > before
        rounds = 0
        deadline = 0.1 + 0.2  # a little more than 0.3
        await asyncio.sleep(0.3 - loop.time())
        while (left := deadline - loop.time()) > 0:
            rounds += 1
            await asyncio.sleep(left)
        return rounds

    assert play(program, most_steps=100).result == 1


@pytest.mark.parametrize("scheduler", [RandomWalk, Pct, Pos])
def test_steps_of_a_task_and_callbacks_of_a_process_keep_their_order(scheduler: type[Scheduler]) -> None:
    async def program(loop: SimLoop) -> Any:
        orders: dict[str, list[int]] = {"callbacks": [], "a": [], "b": []}

        async def steps(name: str) -> None:
            for number in range(10):
                orders[name].append(number)
                await asyncio.sleep(0)

        for number in range(10):
            loop.call_soon(orders["callbacks"].append, number)
        await asyncio.gather(steps("a"), steps("b"))
        await asyncio.sleep(1)
        return orders

    for seed in range(10):
        assert set(map(tuple, play(program, seed=seed, scheduler=scheduler()).result.values())) == {tuple(range(10))}


def test_a_cancelled_callback_is_no_candidate() -> None:
    async def program(loop: SimLoop) -> None:
        loop.call_soon(print).cancel()
        loop.call_soon(print).cancel()
        await asyncio.sleep(0)

    assert play(program, scheduler=RandomWalk()).loop.choices.recorded == {}


def test_tasks_in_sets_come_in_the_order_in_which_they_were_made() -> None:
    """asyncio cancels the tasks of a failed group in the order of a set."""

    async def program(loop: SimLoop) -> list[int]:
        order: list[int] = []
        junk = []

        async def child(number: int) -> None:
            try:
                await asyncio.sleep(10)
            finally:
                order.append(number)

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    junk.append(bytearray(number * 37))  # so that addresses differ
                    group.create_task(child(number))
                await asyncio.sleep(1)
                raise ValueError
        except* ValueError:
            pass
        return order

    assert play(program).result == sorted(play(program).result)
