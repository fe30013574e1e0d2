"""What Hypothesis draws for scenarios: plans and workloads. Hypothesis is imported when a strategy is built."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypedDict

from duress.cli.choices import chosen_kinds, chosen_options, chosen_places
from duress.faults import strategies
from duress.faults.bounds import USUAL_PLACES, Place
from duress.faults.plan import KINDS, Plan
from duress.scenarios import registry
from duress.scenarios.settings import USUAL, bounds_of
from duress.scenarios.spec import Scenario

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


MOST_SEED: Final = 2**32 - 1


class Workload(TypedDict):
    """What is done in a run, and by how many: further arguments of `duress_run`."""

    seed: int  # the workload's own randomness, and the schedule's
    workers: int
    options: dict[str, int]  # the scenario's sizes


def workloads(
    scenario: Scenario | str, *, workers: int | None = None, most: Mapping[str, int] | None = None
) -> "SearchStrategy[Workload]":
    """Workloads of a scenario, for `duress_run(orders, plan=plan, **workload)`: its seed, its sizes, and how many workers.

    Sizes go up to those that a simulated run usually has, or to `most`; workers to `workers`. They shrink towards one
    worker, sizes of 1 and seed 0. Raises click.UsageError for a size in `most` that the scenario does not have.
    """
    from hypothesis import strategies as st

    found = registry.find(registry.reference_of(scenario))
    sizes = chosen_options(found, [f"{name}={size}" for name, size in (most or {}).items()], "sim")
    drawn = {name: st.integers(1, size) for name, size in sizes.items()}
    return st.builds(
        Workload,
        seed=st.integers(0, MOST_SEED),
        workers=st.integers(1, workers or USUAL["sim"].workers),
        options=st.fixed_dictionaries(drawn),
    )


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
