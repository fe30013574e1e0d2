"""From a failing run to the smallest that is found within a time: proposals are run, one after the other, in one cell."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from duress.faults.plan import describe
from duress.scenarios.campaign import Order, reproduce
from duress.scenarios.invariants import Finding, judge
from duress.scenarios.observed import CellEnded, Observed, RunFailed
from duress.scenarios.result import Shrunk
from duress.scenarios.shrinking import neighbours
from duress.scenarios.shrinking.passes import smaller
from duress.scenarios.shrinking.story import instead, story
from duress.scenarios.shrinking.variant import Trial, Variant, size_of
from duress.scenarios.sim.ground import SimGround
from duress.scenarios.sim.reproduction import token_of

SECONDS: Final = 60.0


class NothingToShrink(Exception):
    """The run cannot be made smaller; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When to stop, and show the smallest run so far."""

    seconds: float = SECONDS
    runs: int | None = None  # the same run gives the same smaller one if this is what ends it, or nothing does
    going: Callable[[], bool] = lambda: True

    def left(self, spent: float, runs: int) -> bool:
        """Whether another run may be tried."""
        return spent < self.seconds and (self.runs is None or runs < self.runs) and self.going()


class Search:
    """Runs variants of one run, and knows those that it has run."""

    def __init__(
        self, order: Order, ground: SimGround, seed: int, invariant: str | None, known: Collection[str] = ()
    ) -> None:
        self._order = order
        self._ground = ground
        self._seed = seed
        self.invariant = invariant
        self._others = known
        self._known: dict[bytes, Trial | None] = {}
        self.runs = 0
        self.best: Trial | None = None

    async def observe(self, variant: Variant, *, trace: bool = False) -> Observed:
        """The variant's run. Raises RunFailed."""
        variation = variant.variation(self._order.work.simulating, trace=trace)
        return await self._ground.vary(self._seed, variant.plan, variation)

    async def findings(self, observed: Observed) -> list[Finding]:
        """What it breaks of what is looked for: one invariant, or any of the scenario's."""
        ids = self._order.scenario.invariants if self.invariant is None else (self.invariant,)
        found = await asyncio.to_thread(judge, observed.evidence, ids)
        wanted = {one.invariant for one in found} - set(self._others) if self.invariant is None else {self.invariant}
        return [one for one in found if one.invariant in wanted]

    async def first(self, variant: Variant) -> Trial:
        """The run to make smaller. Raises NothingToShrink, RunFailed."""
        observed = await self.observe(variant)
        self.runs += 1
        found = await self.findings(observed)
        if not found:
            what = self.invariant or ("any other invariant" if self._others else "any invariant")
            raise NothingToShrink(f"seed {self._seed} of {self._order.work.reference} does not break {what}")
        self.invariant = found[0].invariant
        self.best = _trial(variant, observed, found[0])
        return self.best

    async def trial(self, variant: Variant) -> Trial | None:
        """The variant's trial, if it breaks the promise; a run in which the harness fails does not. Raises CellEnded."""
        if (key := variant.key) in self._known:
            return self._known[key]
        self.runs += 1
        try:
            observed = await self.observe(variant)
        except CellEnded:
            raise
        except RunFailed:
            self._known[key] = None
            return None
        found = await self.findings(observed)
        trial = _trial(variant, observed, found[0]) if found else None
        self._known[key] = trial
        if trial is not None:
            self._known[trial.variant.key] = self.best = trial
        return trial


def _trial(variant: Variant, observed: Observed, finding: Finding) -> Trial:
    assert observed.simulated is not None and observed.simulated.choices is not None
    made = dataclasses.replace(variant, choices=observed.simulated.choices)
    return Trial(made, observed, finding.message, finding.workflow)


async def shrink(
    order: Order,
    ground: SimGround,
    seed: int,
    invariant: str | None,
    budget: Budget,
    known: Collection[str] = (),
) -> Shrunk:
    """Make the run of a seed smaller, for as long as it breaks `invariant` (None: the first that it breaks and that is not
    among the `known`).

    `ground` is one of the order's work. Raises NothingToShrink, and RunFailed if the run itself cannot be made.
    """
    began = time.monotonic()
    search = Search(order, ground, seed, invariant, known)
    first = await search.first(Variant.of(order, seed))
    complete = await _search(search, first, began, budget)
    assert search.best is not None
    return await _shrunk(order, ground, search, first, began, complete=complete)


async def _search(search: Search, first: Trial, began: float, budget: Budget) -> bool:
    """Whether it came to its end."""
    proposals = smaller(first)
    try:
        variant = next(proposals)
        while budget.left(time.monotonic() - began, search.runs):
            variant = proposals.send(await search.trial(variant))
    except StopIteration:
        return True
    except CellEnded:
        return False
    return False


async def _shrunk(
    order: Order, ground: SimGround, search: Search, first: Trial, began: float, *, complete: bool
) -> Shrunk:
    """The result: the best run once more, to be told, and beside it the nearest that breaks nothing."""
    best = search.best
    assert best is not None and search.invariant is not None and best.observed.simulated is not None
    told = await search.observe(best.variant, trace=True)
    assert told.simulated is not None
    if told.simulated.hash != best.observed.simulated.hash:
        raise RunFailed(
            f"the smallest run is not the same a second time: hash {best.observed.simulated.hash}, then "
            f"{told.simulated.hash}; something decides it that is not simulated"
        )
    seed = first.observed.evidence.seed
    smaller_order = best.variant.ordered(order)
    token = token_of(smaller_order, seed, ground.postgres, told.simulated)
    near = await neighbours.nearest(search, best)
    return Shrunk(
        invariant=search.invariant,
        seed=seed,
        message=best.message,
        before=first.size,
        after=size_of(best.variant, best.observed),
        faults=tuple(describe(event) for event in best.variant.plan.events),
        story=story(told, best.workflow, best.message),
        instead=() if near is None else instead(told, near, best.workflow),
        token=token,
        reproduce=reproduce(smaller_order, seed, token),
        runs=search.runs,
        seconds=round(time.monotonic() - began, 2),
        complete=complete,
    )
