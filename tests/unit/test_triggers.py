"""A point trigger is pulled exactly at its occurrence, by its worker, once in a run, over all incarnations."""

from duress.faults.plan import AtPoint, AtTime, Event, KillWorker, Plan
from duress.scenarios.points import Armed
from duress.scenarios.triggers import Triggers


def at(point: str, occurrence: int = 1, step: str | None = None, worker: int | None = None) -> Event:
    return Event(trigger=AtPoint(point=point, occurrence=occurrence, step=step), fault=KillWorker(), worker=worker)


def test_the_third_occurrence_is_the_third_of_that_worker_and_step() -> None:
    event = at("step.checkpointing", 3, "charge", worker=1)
    triggers = Triggers(Plan(events=(event,)))
    arrivals = [(0, "charge"), (1, "charge"), (1, "debit"), (1, "charge"), (0, "charge"), (0, "charge"), (1, "charge")]
    pulled = [triggers.reached(worker, "step.checkpointing", step) for worker, step in arrivals]
    assert pulled == [[], [], [], [], [], [], [(0, event)]]
    assert triggers.reached(1, "step.checkpointing", "charge") == []


def test_without_a_worker_the_first_to_reach_its_own_count_pulls_it() -> None:
    event = at("workflow.claimed", 2)
    triggers = Triggers(Plan(events=(event,)))
    assert triggers.reached(0, "workflow.claimed", None) == []
    assert triggers.reached(1, "workflow.claimed", None) == []
    assert triggers.reached(1, "workflow.claimed", None) == [(0, event)]
    assert triggers.reached(0, "workflow.claimed", None) == []


def test_workers_are_armed_only_for_what_is_still_to_come() -> None:
    plan = Plan(
        events=(
            at("step.started", step="charge", worker=0),
            at("step.started", worker=1),
            Event(trigger=AtTime(seconds=1.0), fault=KillWorker()),
        )
    )
    triggers = Triggers(plan)
    assert triggers.armed_for(0) == (Armed("step.started", "charge"),)
    assert triggers.armed_for(1) == (Armed("step.started"),)
    assert triggers.armed_for(2) == ()
    triggers.reached(0, "step.started", "charge")
    assert triggers.armed_for(0) == ()
    assert [index for index, _ in triggers.timed] == [2]


def test_an_event_that_found_nothing_to_strike_comes_again_at_the_next_arrival() -> None:
    event = at("step.committing", 2, "debit")
    triggers = Triggers(Plan(events=(event,)))
    assert triggers.reached(3, "step.committing", "debit") == []
    assert triggers.reached(3, "step.committing", "debit") == [(0, event)]
    assert triggers.armed_for(3) == ()
    triggers.again(0, event, 3)
    assert triggers.armed_for(3) == (Armed("step.committing", "debit"),)
    assert triggers.reached(3, "step.committing", "debit") == [(0, event)]


def test_two_events_at_one_point_are_both_pulled() -> None:
    first, second = at("step.ended", 1, worker=0), at("step.ended", 2, worker=0)
    triggers = Triggers(Plan(events=(first, second)))
    assert triggers.reached(0, "step.ended", "debit") == [(0, first)]
    assert triggers.reached(0, "step.ended", "charge") == [(1, second)]


def test_an_arrival_that_pulls_nothing_is_counted_and_one_that_does_is_left_to_be() -> None:
    """Where a worker is stopped only for what strikes, nothing else may count."""
    event, other = at("step.started", 3, "charge", worker=1), at("step.started", 2, worker=1)
    triggers = Triggers(Plan(events=(event, other)))
    assert not triggers.pulls(0, "step.started", "charge") and not triggers.pulls(1, "step.ended", "charge")
    assert not triggers.pulls(1, "step.started", "charge")
    assert triggers.pulls(1, "step.started", "charge")
    assert triggers.reached(1, "step.started", "charge") == [(1, other)]
    assert triggers.pulls(1, "step.started", "charge")
    assert triggers.reached(1, "step.started", "charge") == [(0, event)]
    assert not triggers.pulls(1, "step.started", "charge")
