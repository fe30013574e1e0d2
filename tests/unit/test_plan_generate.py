"""A seed is a plan for ever, and over seeds every kind, trigger and length of pause comes up."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from duress.faults.bounds import Bounds, objection
from duress.faults.generate import generate
from duress.faults.plan import (
    KINDS,
    AtPoint,
    AtTime,
    ClockJump,
    ClockSkew,
    CrashBackend,
    Event,
    Failover,
    KillWorker,
    PauseWorker,
    PlanError,
    Pooler,
    RestartPostgres,
    StopWorker,
    TerminateBackend,
    kind,
)
from duress.faults.planfile import dumps

# Of the plans of seeds 0 to 199, of the kinds that there were first. If this changes, every seed that somebody wrote down
# means another run: do not change it, give the new way of drawing another name.
FIRST = ("kill-worker", "pause-worker", "stop-worker", "terminate-backend", "crash-backend", "restart-postgres")
GOLDEN = "a77f74a33079cb97f9a7389eb6bff977057523747e5c7815e28df1dbe5a541df"


def digest() -> str:
    bounds = Bounds(kinds=dict.fromkeys(FIRST, 1.0))
    text = "".join(dumps(generate(Random(seed), bounds)) for seed in range(200))
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_seed_gives_the_same_plan_for_ever() -> None:
    assert digest() == GOLDEN


def test_a_plan_does_not_depend_on_the_process() -> None:
    code = "from random import Random; from duress.faults.generate import generate; from duress.faults.planfile import "
    code += "dumps; print(dumps(generate(Random(12))), end='')"
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == dumps(generate(Random(12)))


def test_the_order_in_which_kinds_are_given_makes_no_difference() -> None:
    forward, backward = Bounds(), Bounds(kinds=dict.fromkeys(reversed(KINDS), 1.0))
    assert all(generate(Random(seed), forward) == generate(Random(seed), backward) for seed in range(50))


def test_over_seeds_everything_comes_up() -> None:
    plans = [generate(Random(seed)) for seed in range(400)]
    events = [event for plan in plans for event in plan.events]
    assert set(KINDS) == {kind(event.fault) for event in events}
    for each in KINDS:
        assert {AtTime, AtPoint} == {type(event.trigger) for event in events if kind(event.fault) == each}
    points = {event.trigger.point for event in events if isinstance(event.trigger, AtPoint)}
    assert points >= {"workflow.claimed", "step.checkpointing", "step.committing", "step.started", "workflow.finishing"}
    assert {event.worker for event in events} == {None, 0, 1, 2, 3}
    kills = [event.fault.restart_after for event in events if isinstance(event.fault, KillWorker)]
    assert None in kills
    assert any(after is not None and after > 1.0 for after in kills)
    assert {event.fault.mode for event in events if isinstance(event.fault, RestartPostgres)} == {"fast", "immediate"}
    assert {len(plan.events) for plan in plans} == {1, 2, 3, 4, 5}


def test_most_pauses_outlast_the_lease_and_some_do_not() -> None:
    bounds = Bounds(lease=2.0, kinds={"pause-worker": 1.0})
    pauses = [
        event.fault.duration
        for seed in range(300)
        for event in generate(Random(seed), bounds).events
        if isinstance(event.fault, PauseWorker)
    ]
    zombies = sum(duration > 2.0 for duration in pauses) / len(pauses)
    assert 0.6 < zombies < 0.9


def test_each_seed_leaves_some_kinds_out() -> None:
    """Swarm: with all kinds in all plans, kinds that mask each other are never seen apart."""
    kinds = [frozenset(kind(event.fault) for event in generate(Random(seed)).events) for seed in range(300)]
    without = Counter(each for chosen in kinds for each in KINDS if each not in chosen)
    assert all(without[each] > 100 for each in KINDS)
    long = [generate(Random(seed), Bounds(most_events=5)) for seed in range(300)]
    assert any(len(plan.events) >= 3 and len({kind(event.fault) for event in plan.events}) == 1 for plan in long)


def test_weights_choose() -> None:
    bounds = Bounds(kinds={"kill-worker": 9.0, "terminate-backend": 1.0, "crash-backend": 0.0})
    drawn = Counter(kind(event.fault) for seed in range(300) for event in generate(Random(seed), bounds).events)
    assert drawn["crash-backend"] == 0
    assert drawn["kill-worker"] > drawn["terminate-backend"] > 0


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("only", [None, *KINDS])
def test_any_bounds_give_plans(workers: int, only: str | None) -> None:
    bounds = Bounds(workers=workers, kinds={only: 1.0} if only else dict.fromkeys(KINDS, 1.0))
    for seed in range(40):
        plan = generate(Random(seed), bounds)
        assert plan.events
        assert objection(list(plan.events), bounds) is None


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"kinds": {"kill-wroker": 1.0}}, "'kill-wroker' is no fault of the catalogue; did you mean 'kill-worker'?"),
        ({"kinds": {"kill-worker": -1.0}}, "the weight of 'kill-worker' is -1.0"),
        ({"kinds": {"kill-worker": 0.0}}, "none is allowed; choose from kill-worker, "),
        ({"workers": 0}, "workers: 0 leaves nobody"),
        ({"horizon": 0.1}, r"horizon: 0.1 s is over"),
    ],
)
def test_bounds_that_allow_nothing_are_refused(bad: dict[str, object], said: str) -> None:
    with pytest.raises(PlanError, match=said.replace("?", r"\?")):
        Bounds(**bad)  # type: ignore[arg-type]


def at(seconds: float) -> AtTime:
    return AtTime(seconds=seconds)


CLAIM = AtPoint(point="workflow.claimed", occurrence=2)


@pytest.mark.parametrize(
    ("said", "events"),
    [
        ("more than 5 events", [Event(trigger=at(1 + n / 10), fault=TerminateBackend()) for n in range(6)]),
        ("outside", [Event(trigger=at(3.5), fault=TerminateBackend())]),
        ("outside", [Event(trigger=at(0.1), fault=TerminateBackend())]),
        ("never come", [Event(trigger=AtPoint(point="workflow.claimed", occurrence=7), fault=TerminateBackend())]),
        ("longer than", [Event(trigger=at(1), fault=PauseWorker(duration=4), worker=0)]),
        (
            "may be away",
            [
                Event(trigger=AtPoint(point=point), fault=PauseWorker(duration=0.1))
                for point in ("workflow.claimed", "step.started", "step.ended", "step.committing")
            ],
        ),
        ("may be away", [Event(trigger=CLAIM, fault=KillWorker(), worker=n) for n in range(4)]),
        ("for good", [Event(trigger=CLAIM, fault=KillWorker(restart_after=None), worker=n) for n in range(2)]),
        ("gone for good", [Event(trigger=CLAIM, fault=StopWorker(restart_after=None))]),
        (
            "gone for good",
            [
                Event(trigger=CLAIM, fault=StopWorker(restart_after=None), worker=1),
                Event(trigger=at(1), fault=TerminateBackend(), worker=1),
            ],
        ),
        (
            "too soon",
            [Event(trigger=at(1), fault=RestartPostgres(down=1)), Event(trigger=at(2.9), fault=CrashBackend())],
        ),
        ("one standby", [Event(trigger=at(1 + n), fault=Failover()) for n in range(2)]),
        ("any distance", [Event(trigger=CLAIM, fault=CrashBackend(), worker=n) for n in range(2)]),
        ("outages", [Event(trigger=at(0.3 + 1.2 * n), fault=CrashBackend()) for n in range(3)]),
        (
            "its worker may be away",
            [Event(trigger=at(1), fault=KillWorker(), worker=1), Event(trigger=at(2.5), fault=KillWorker(), worker=1)],
        ),
        (
            "same moment",
            [Event(trigger=at(1), fault=TerminateBackend()), Event(trigger=at(1), fault=KillWorker(), worker=1)],
        ),
        (
            "undo",
            [
                Event(trigger=at(1), fault=ClockSkew(seconds=60, duration=1), worker=1),
                Event(trigger=at(1.5), fault=ClockJump(seconds=-60)),
            ],
        ),
        (
            "same point",
            [Event(trigger=CLAIM, fault=TerminateBackend()), Event(trigger=CLAIM, fault=KillWorker(), worker=1)],
        ),
        ("repeats", [Event(trigger=at(1), fault=TerminateBackend()) for _ in range(2)]),
    ],
)
def test_storms_and_faults_that_cannot_fire_are_not_drawn(said: str, events: list[Event]) -> None:
    objected = objection(events, Bounds())
    assert objected is not None
    assert said in objected
    if len(events) > 1:  # it is the last one that is too much
        assert objection(events[:-1], Bounds()) is None


def test_nobody_fails_over_twice_nor_behind_a_pooler() -> None:
    over = Event(trigger=AtTime(seconds=1.0), fault=Failover())
    again = Event(trigger=AtTime(seconds=3.0), fault=Failover(mode="async"))
    pooler = Event(trigger=AtTime(seconds=2.0), fault=Pooler(duration=0.5))
    assert objection([over], Bounds()) is None and objection([pooler], Bounds()) is None
    assert objection([over, again], Bounds(horizon=5.0)) == "there is one standby to fail over to"
    assert objection([over, pooler], Bounds()) == "no pooler stands before two servers"
