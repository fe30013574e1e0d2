"""Schedulers find what their papers promise, and keep to the candidates that they are given."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise, permutations

import pytest
from stage import play

from duress.simulator.choices import Choices
from duress.simulator.loop import SimLoop
from duress.simulator.scheduler import Fifo, Pct, Pos, RandomWalk, Replay, Scheduler


@dataclass(frozen=True)
class Chain:
    id: int
    label: str = ""
    process: str = ""


THREE = [Chain(1), Chain(2), Chain(3)]


def picks(scheduler: Scheduler, choices: Choices, count: int, ready: list[Chain]) -> list[int]:
    return [scheduler.pick(ready, choices) for _ in range(count)]


def test_fifo_decides_nothing() -> None:
    choices = Choices.of_seed(1)
    assert picks(Fifo(), choices, 10, THREE) == [0] * 10
    assert choices.recorded == {}


@pytest.mark.parametrize("make", [RandomWalk, Pct, Pos])
def test_picks_are_recorded_and_replayed_by_any_scheduler(make: type[Scheduler]) -> None:
    choices = Choices.of_seed(7)
    made = picks(make(), choices, 50, THREE)
    assert choices.recorded == {"schedule": tuple(made)}
    for other in (Replay, RandomWalk, Pct, Pos):
        assert picks(other(), Choices.replay(choices.recorded), 50, THREE) == made
    assert picks(make(), Choices.of_seed(7), 50, THREE) == made
    assert picks(Replay(), Choices.replay({"schedule": made[:5]}), 10, THREE) == [*made[:5], *[0] * 5]


def test_a_random_walk_is_fair() -> None:
    counts = Counter(picks(RandomWalk(), Choices.of_seed(1), 3_000, THREE))
    assert all(900 < counts[index] < 1_100 for index in range(3))


def test_pct_runs_the_highest_until_a_change() -> None:
    """With depth d there are at most d - 1 changes, and each lets another chain go."""
    for seed in range(50):
        made = picks(Pct(depth=3, length=20), Choices.of_seed(seed), 40, THREE)
        changes = sum(a != b for a, b in pairwise(made))
        assert changes <= 2
    firsts = Counter(picks(Pct(), Choices.of_seed(seed), 1, THREE)[0] for seed in range(300))
    assert all(firsts[index] > 60 for index in range(3))


def test_pct_lets_the_other_of_two_go_at_every_change() -> None:
    for seed in range(30):
        scheduler = Pct(depth=5, length=30)
        made = picks(scheduler, Choices.of_seed(seed), 30, THREE[:2])
        changes = {step for step in scheduler.changes if step > 1}
        assert {step for step, (a, b) in enumerate(pairwise(made), 2) if a != b} == changes


def test_pct_does_not_starve_for_ever() -> None:
    scheduler = Pct(depth=1)
    assert len(set(picks(scheduler, Choices.of_seed(1), 3 * Pct.PATIENCE + 10, THREE))) == 3


@pytest.mark.parametrize(("depth", "length"), [(0, 10), (1, 0)])
def test_pct_needs_a_depth_and_a_length(depth: int, length: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pct(depth, length)


def needle(seed: int, scheduler: Scheduler) -> bool:
    """Whether a chain of 12 steps ran wholly before another's second step: a random walk hardly ever lets it."""
    order: list[str] = []

    async def program(loop: SimLoop) -> None:
        async def steps(name: str) -> None:
            for _ in range(12):
                order.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(steps("a"), steps("b"))

    play(program, seed=seed, scheduler=scheduler)
    return order == [*"a" * 12, *"b" * 12] or order == ["b", *"a" * 12, *"b" * 11]


def test_pct_finds_in_few_runs_what_a_random_walk_does_not() -> None:
    assert sum(needle(seed, Pct(depth=1)) for seed in range(40)) >= 10
    assert sum(needle(seed, RandomWalk()) for seed in range(40)) == 0


def test_pos_samples_orders_of_unlike_length_evenly() -> None:
    """The paper's own example in small: one chain of many steps, one of a single step, which no random walk runs late."""

    def position(seed: int, scheduler: Scheduler) -> int:
        order: list[str] = []

        async def program(loop: SimLoop) -> None:
            async def steps(name: str, count: int) -> None:
                for _ in range(count):
                    order.append(name)
                    await asyncio.sleep(0)

            await asyncio.gather(
                *[
                    asyncio.create_task(steps(name, count))
                    for name, count in (("long", 10), ("short", 1), ("other", 10))
                ]
            )

        play(program, seed=seed, scheduler=scheduler)
        return order.index("short")

    spread = Counter(position(seed, Pos()) for seed in range(200))
    assert len(spread) >= 6


@pytest.mark.parametrize("make", [RandomWalk, Pos, Pct])
def test_every_order_of_three_tasks_comes_up(make: type[Scheduler]) -> None:
    def order(seed: int) -> tuple[str, ...]:
        seen: list[str] = []

        async def step(name: str) -> None:
            seen.append(name)

        async def program(loop: SimLoop) -> None:
            await asyncio.gather(*map(step, "abc"))

        play(program, seed=seed, scheduler=make())
        return tuple(seen)

    assert {order(seed) for seed in range(80)} == set(permutations("abc"))
