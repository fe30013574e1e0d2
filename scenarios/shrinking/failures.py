"""The failing runs of a campaign made smaller: of each invariant that was broken the first run that broke it."""

import dataclasses
import time
from collections.abc import Callable
from typing import Final

import msgspec

from duress.scenarios.campaign import Order
from duress.scenarios.observed import RunFailed
from duress.scenarios.result import Campaign, Run, Shrunk
from duress.scenarios.shrinking.shrink import Budget, NothingToShrink, shrink
from duress.scenarios.sim.ground import open_sim_ground

_LEAST: Final = 1.0  # seconds for one invariant; with less nothing comes of it


async def shrink_failures(order: Order, campaign: Campaign, going: Callable[[], bool] = lambda: True) -> Campaign:
    """The campaign with what came of that within `order.shrink` seconds, in the first violation of each invariant.

    What cannot be shrunk stays as it was found. Raises ServerError.
    """
    wanted = _first_of_each(campaign)
    if not wanted or order.shrink <= 0:
        return campaign
    until = time.monotonic() + order.shrink
    found: dict[str, Shrunk] = {}
    local = dataclasses.replace(order.work, cluster=None)
    async with open_sim_ground(local, 0) as ground:
        for place, (invariant, seed) in enumerate(wanted.items()):
            share = (until - time.monotonic()) / (len(wanted) - place)
            if share < _LEAST or not going():
                break
            try:
                found[invariant] = await shrink(order, ground, seed, invariant, Budget(seconds=share, going=going))
            except (NothingToShrink, RunFailed):  # what was found is told all the same
                continue
    runs = tuple(
        _told(run, {one: found[one] for one, seed in wanted.items() if seed == run.seed and one in found})
        for run in campaign.runs
    )
    return msgspec.structs.replace(campaign, runs=runs)


def _first_of_each(campaign: Campaign) -> dict[str, int]:
    """Invariant → the first seed whose run broke it."""
    first: dict[str, int] = {}
    for run in campaign.runs:
        for violation in run.violations:
            first.setdefault(violation.invariant, run.seed)
    return first


def _told(run: Run, found: dict[str, Shrunk]) -> Run:
    """The run with each of these in the first violation of its invariant."""
    left = dict(found)
    violations = tuple(
        msgspec.structs.replace(one, shrunk=left.pop(one.invariant)) if one.invariant in left else one
        for one in run.violations
    )
    return msgspec.structs.replace(run, violations=violations)
