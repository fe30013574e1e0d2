"""A failing run of a canary becomes small, is the same in a fresh process, and has nothing left that could be left out."""

import asyncio
import dataclasses
from pathlib import Path
from typing import TypeVar

import pytest

from duress.cli.orders import order_of
from duress.faults.plan import Plan
from duress.scenarios.campaign import Order
from duress.scenarios.invariants import judge
from duress.scenarios.observed import Observed
from duress.scenarios.result import Shrunk
from duress.scenarios.shrinking.shrink import Budget, NothingToShrink, shrink
from duress.scenarios.shrinking.story import LONGEST, numbered
from duress.scenarios.shrinking.variant import Variant
from duress.scenarios.sim import token
from duress.scenarios.sim.ground import open_sim_ground
from duress.scenarios.sim.token import Reproduction, Unusual

T = TypeVar("T")
MOST_RUNS = 600
SEEDS = range(1, 13)
# Canary → the invariant that it stands for. Each shows within a few seeds.
CANARIES = {
    "start-without-key": "W1",
    "checkpoint-apart": "S3",
    "lost-connection-is-failure": "S7",
    "finish-without-epoch": "W2",
}


def order(folder: Path, canary: str | None, seed: int = 1) -> Order:
    return order_of(Reproduction(reference="payments", seed=seed, unusual=Unusual(canary=canary)), folder)


async def first_failure(asked: Order, invariant: str) -> int:
    """The first seed under which it is broken."""
    async with open_sim_ground(asked.work, 0) as ground:
        for seed in SEEDS:
            variant = Variant.of(asked, seed)
            observed = await ground.vary(seed, variant.plan, variant.variation(asked.work.simulating))
            if judge(observed.evidence, (invariant,)):
                return seed
    raise AssertionError(f"{asked.work.canary} does not show in seeds {SEEDS}")


async def shrunk(folder: Path, canary: str, invariant: str, budget: Budget) -> Shrunk:
    asked = order(folder, canary)
    seed = await first_failure(asked, invariant)
    async with open_sim_ground(asked.work, 0) as ground:
        return await shrink(asked, ground, seed, invariant, budget)


async def again(word: str, folder: Path, *changes: tuple[Plan | None, tuple[int, ...] | None]) -> list[Observed]:
    """The run of a token, in a fresh process: with each of these plans (None: its own), and pieces of its work."""
    run = token.decode(word)
    named = order_of(run, folder)
    own = Variant.of(named, run.seed)
    found = []
    async with open_sim_ground(named.work, 0) as ground:
        for plan, only in changes:
            settings = own.settings if only is None else dataclasses.replace(own.settings, only=only)
            variant = dataclasses.replace(own, plan=own.plan if plan is None else plan, settings=settings)
            found.append(await ground.vary(run.seed, variant.plan, variant.variation(named.work.simulating)))
    return found


def without_each(parts: tuple[T, ...]) -> list[tuple[T, ...]]:
    return [parts[:place] + parts[place + 1 :] for place in range(len(parts))]


@pytest.mark.parametrize(("canary", "invariant"), CANARIES.items())
def test_a_canary_s_run_gets_small_and_nothing_more_can_go(canary: str, invariant: str, tmp_path: Path) -> None:
    small = asyncio.run(shrunk(tmp_path, canary, invariant, Budget(seconds=600.0, runs=MOST_RUNS)))
    assert small.complete, f"{small.runs} runs"
    assert small.after.faults <= 2
    assert small.after.workflows <= small.before.workflows
    assert small.after.choices < small.before.choices
    assert 3 <= numbered(small.story) <= LONGEST
    assert small.message in small.story[-1]

    run = token.decode(small.token)
    plan, only = run.unusual.plan, run.unusual.settings.get("only")
    assert plan is not None and isinstance(only, tuple)
    fewer_faults = [(Plan(events=rest), None) for rest in without_each(plan.events)]
    less_work = [(None, rest) for rest in without_each(only)]
    same, *others = asyncio.run(again(small.token, tmp_path / "again", (None, None), *fewer_faults, *less_work))
    assert same.simulated is not None and run.same(same.simulated.hash)
    assert [one.message for one in judge(same.evidence, (invariant,))][:1] == [small.message]
    assert [judge(other.evidence, (invariant,)) for other in others] == [[] for _ in others]


def test_the_same_run_gives_the_same_small_run(tmp_path: Path) -> None:
    budget = Budget(seconds=600.0, runs=12)
    one, two = (asyncio.run(shrunk(tmp_path / name, "checkpoint-apart", "S3", budget)) for name in ("one", "two"))
    assert one.runs == two.runs == 12 and not one.complete
    assert one.token == two.token and one.story == two.story and one.instead == two.instead


def test_a_run_that_passes_cannot_be_shrunk(tmp_path: Path) -> None:
    async def attempt() -> None:
        asked = order(tmp_path, None)
        async with open_sim_ground(asked.work, 0) as ground:
            await shrink(asked, ground, 1, None, Budget(runs=3))

    with pytest.raises(NothingToShrink, match="seed 1 of payments does not break any invariant"):
        asyncio.run(attempt())
