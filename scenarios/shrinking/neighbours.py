"""The nearest run that breaks nothing: the small one without one of its faults, else with one decision made plainly."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from duress.faults.plan import Plan, describe
from duress.scenarios.observed import Observed, RunFailed
from duress.scenarios.shrinking.variant import Trial, Variant

if TYPE_CHECKING:
    from duress.scenarios.shrinking.shrink import Search


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A run that holds the promise, and by what it differs."""

    without: str  # "kill worker 2 at 0.4 s"
    observed: Observed


async def nearest(search: "Search", best: Trial) -> Neighbour | None:
    """The first of the candidates that holds; None if all break the promise too, or there is none."""
    for without, variant in _candidates(best):
        try:
            observed = await search.observe(variant, trace=True)
        except RunFailed:
            continue
        if not await search.findings(observed):
            return Neighbour(without, observed)
    return None


def _candidates(best: Trial) -> Iterator[tuple[str, Variant]]:
    variant = best.variant
    events = variant.plan.events
    for place in reversed(range(len(events))):
        rest = Plan(events=events[:place] + events[place + 1 :])
        yield f"the fault ({describe(events[place])})", dataclasses.replace(variant, plan=rest)
    choices = variant.choices or {}
    for stream, values in sorted(choices.items()):
        others = [place for place, value in enumerate(values) if value]
        for place in reversed(others[-3:]):
            plain = (*values[:place], 0, *values[place + 1 :])
            name = f"decision {place + 1} of the {stream}, which then is the plain one"
            yield name, dataclasses.replace(variant, choices={**choices, stream: plain})
