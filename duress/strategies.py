"""What Hypothesis draws for scenarios: plans. Hypothesis is imported when a strategy is built."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from duress.cli.choices import chosen_kinds, chosen_places
from duress.faults import strategies
from duress.faults.bounds import USUAL_PLACES, Place
from duress.faults.plan import KINDS, Plan
from duress.scenarios import registry
from duress.scenarios.settings import USUAL, bounds_of
from duress.scenarios.spec import Scenario

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def plans(
    scenario: Scenario | str | None = None,
    *,
    faults: Iterable[str] | None = None,
    workers: int | None = None,
    most_events: int | None = None,
) -> "SearchStrategy[Plan]":
    """Plans that a simulated run of the scenario (of any, if none is named) can be put under: `@given(plan=plans(orders))`.

    They shrink towards fewer, later and shorter faults, the empty plan last. `faults` and `workers` as for `duress run`.
    """
    usual = USUAL["sim"]
    wanted = None if faults is None else ",".join(faults)
    if scenario is None:
        kinds: Mapping[str, float] = dict.fromkeys(KINDS if faults is None else faults, 1.0)
        places: Sequence[Place] = USUAL_PLACES
    else:
        found = registry.find(registry.reference_of(scenario))
        kinds, places = chosen_kinds(found, None, wanted, "sim", own_server=True), chosen_places(found, None)
    settings = dataclasses.replace(
        usual, workers=workers or usual.workers, most_faults=most_events or usual.most_faults
    )
    bounds = bounds_of(settings, kinds, places)
    return strategies.plans(bounds)
