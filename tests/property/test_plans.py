"""Whatever a plan is, its file holds it; whatever is drawn, by a seed or by Hypothesis, is valid and within bounds."""

from random import Random

from hypothesis import find, given, settings
from hypothesis import strategies as st

from duress.faults.bounds import Bounds, objection
from duress.faults.generate import generate
from duress.faults.plan import KINDS, AtTime, PauseWorker, Plan, describe, kind
from duress.faults.planfile import dumps, loads
from duress.faults.strategies import plans

kinds = st.dictionaries(st.sampled_from(sorted(KINDS)), st.floats(0.1, 10), min_size=1)
bounds = st.builds(
    Bounds,
    workers=st.integers(1, 8),
    lease=st.floats(0.05, 10),
    horizon=st.floats(0.2, 20),
    kinds=kinds,
    most_events=st.integers(1, 8),
    last_occurrence=st.integers(1, 20),
)


@given(plans())
def test_json_holds_a_plan(plan: Plan) -> None:
    assert loads(dumps(plan)) == plan
    assert dumps(loads(dumps(plan))) == dumps(plan)


@given(st.data(), bounds)
def test_hypothesis_draws_valid_plans_within_bounds(data: st.DataObject, limits: Bounds) -> None:
    plan = data.draw(plans(limits))
    loads(dumps(plan), workers=limits.workers, points={point for point, _ in limits.places})
    assert objection(list(plan.events), limits) is None
    assert {kind(event.fault) for event in plan.events} <= set(limits.kinds)


@given(st.integers(0, 2**64), bounds)
def test_seeds_draw_valid_plans_within_bounds(seed: int, limits: Bounds) -> None:
    plan = generate(Random(seed), limits)
    loads(dumps(plan), workers=limits.workers, points={point for point, _ in limits.places})
    assert objection(list(plan.events), limits) is None
    assert plan.events
    assert {kind(event.fault) for event in plan.events} <= set(limits.kinds)


@given(st.integers(0, 2**64), bounds)
def test_a_seed_draws_the_same_plan_again(seed: int, limits: Bounds) -> None:
    assert generate(Random(seed), limits) == generate(Random(seed), limits)


@given(plans())
def test_every_event_reads_as_a_sentence_of_its_own(plan: Plan) -> None:
    sentences = [describe(event) for event in plan.events]
    assert all("None" not in sentence and "{" not in sentence for sentence in sentences)


def test_plans_shrink_to_the_fault_that_matters() -> None:
    """Towards fewer events, and the one left late, short and simple."""
    few = plans(Bounds(most_events=3))
    smallest = find(
        few,
        lambda plan: any(isinstance(event.fault, PauseWorker) for event in plan.events),
        settings=settings(database=None),
    )
    [event] = smallest.events
    assert event.fault == PauseWorker(duration=0.001)
    assert event.trigger == AtTime(seconds=Bounds().horizon)
    assert event.worker is None
