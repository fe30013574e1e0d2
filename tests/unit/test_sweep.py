"""A sweep knows every place of its base run, tries each once under each fault, and says what is left out."""

import itertools
from pathlib import Path

import pytest
from stories import undisturbed

from duress.engine import observer
from duress.faults.plan import (
    AtPoint,
    AtStatement,
    AtTime,
    DropConnection,
    Event,
    KillWorker,
    Plan,
    PlanError,
    TerminateBackend,
    Trigger,
    describe,
)
from duress.faults.validation import validate
from duress.faults.worlds import refuse
from duress.scenarios import coverage
from duress.scenarios.coverage import Swept, Target
from duress.scenarios.observed import Exchange, Observed, Simulated
from duress.scenarios.sweep import BaseFailed, Head, Results, pairs

EXCHANGES: tuple[Exchange, ...] = (
    (0.1, "worker-1", 7, "select  *\n from duress.claim_v1($1) /0badcafe", 2),
    (0.2, "main", 3, "select duress.start_v1($1) /0badcafe", 5),
    (0.3, "worker-0", 4, "begin /00000000", 0),
)


def base() -> Observed:
    story = undisturbed()
    story.of_worker(0.095, 0, observer.STARTED, workflow="t", epoch=1, step="4", name="charge", attempt=2, key="t:4")
    return Observed(story.evidence(), (), 1.0, (), Simulated("aa", "bb", False, (), EXCHANGES))


def target(where: coverage.Where, trigger: AtPoint | AtStatement, worker: int = 0) -> Target:
    return Target(where=where, text="x", event=Event(trigger=trigger, fault=KillWorker(), worker=worker))


def test_every_statement_of_a_worker_is_a_place_before_it_after_it_and_at_each_point_inside() -> None:
    faults = coverage.faults(0.3)
    found = [one for one in coverage.targets(base(), faults) if one.where != "point"]
    assert [
        (one.where, one.event.worker, one.event.trigger) for one in found if one.event.fault == faults[one.where][0]
    ] == [
        ("before", 1, AtStatement(number=7, where="before")),
        ("inside", 1, AtStatement(number=7, where="inside", point=1)),
        ("inside", 1, AtStatement(number=7, where="inside", point=2)),
        ("after", 1, AtStatement(number=7, where="after")),
        ("before", 0, AtStatement(number=4, where="before")),
        ("after", 0, AtStatement(number=4, where="after")),
    ]
    assert {one.text for one in found} == {"select * from duress.claim_v1($1)", "begin"}
    assert len(found) == 2 * (len(faults["before"]) + len(faults["after"])) + 2 * len(faults["inside"])


def test_engine_points_are_counted_from_the_start_of_the_worker_as_triggers_count_them() -> None:
    found = coverage.targets(base(), {"point": (KillWorker(),)})
    triggers = [(one.event.worker, one.event.trigger) for one in found]
    assert (0, AtPoint(point=observer.STARTED, step="charge", occurrence=2)) in triggers
    renewed = [
        trigger
        for worker, trigger in triggers
        if worker == 0 and getattr(trigger, "point", "") == observer.WORKER_RENEWED
    ]
    # One heartbeat came before the workload began.
    assert next(getattr(trigger, "occurrence", 0) for trigger in renewed) == 2
    assert not any(getattr(trigger, "point", "") == observer.ACCEPTED for _, trigger in triggers), (
        "that is the client's"
    )
    assert len(triggers) == len(set(triggers))


def test_pairs_are_drawn_once_each_never_at_one_place_and_the_same_from_one_seed() -> None:
    wanted = [
        target("before", AtStatement(number=1, where="before")),
        target("after", AtStatement(number=1, where="after")),
        target("before", AtStatement(number=1, where="before"), worker=1),
        target("point", AtPoint(point="step.started")),
    ]
    drawn = list(pairs(wanted, 3))
    assert drawn == list(pairs(wanted, 3)) != list(pairs(wanted, 4))
    assert len(drawn) == len(set(drawn)) == 5  # of six, but for the two of one statement, which stops at one place only
    assert (wanted[0], wanted[1]) not in drawn


def swept(one: Target, verdict: str = "pass", struck: int = 1) -> Swept:
    return Swept(targets=(one,), verdict=verdict, struck=struck)  # type: ignore[arg-type]


def test_results_are_kept_as_they_come_and_go_on_with_the_same_run_only(tmp_path: Path) -> None:
    head, path = Head(seed=4, hash="aa", code="bb"), tmp_path / "new" / "sweep.jsonl"
    one = swept(target("point", AtPoint(point="step.started")))
    Results(path, head).add(one)
    again = Results(path, head)
    assert again.all == [one] and again.known() == {one.targets}
    with pytest.raises(BaseFailed, match=r"about another run \(seed 4, code bb\) than this one \(seed 5, code bb\)"):
        Results(path, Head(seed=5, hash="aa", code="bb"))


def test_the_table_counts_what_was_reached_hit_and_how_it_went() -> None:
    places = [AtStatement(number=number, where="before") for number in range(1, 5)]
    kills = [target("before", place) for place in places]
    drops = [Target(where="before", text="x", event=Event(trigger=places[0], fault=DropConnection(), worker=0))]
    results = [swept(kills[0]), swept(kills[1], "fail"), swept(kills[2], "unexplained", 0), swept(drops[0])]
    kill, drop = coverage.table([*kills, *drops], results)
    assert (kill.fault, kill.reached, kill.hit, kill.passed, kill.failed, kill.unexplained) == (
        "kill-worker",
        4,
        2,
        1,
        1,
        1,
    )
    assert (drop.fault, drop.reached, drop.hit, drop.passed) == ("drop-connection", 1, 1, 1)
    assert coverage.places_hit(results) == 2


# The trigger


@pytest.mark.parametrize(
    ("trigger", "worker", "objection"),
    [
        (AtStatement(number=0), 1, r"trigger\.number is 0: statements are counted from 1"),
        (
            AtStatement(number=1, where="inside"),
            1,
            r"trigger\.point is 0: points inside a statement are counted from 1",
        ),
        (AtStatement(number=1, where="after", point=2), 1, r"trigger\.point is 2: only where='inside' has points"),
        (AtStatement(number=1), None, r"worker is None: statements are counted for each worker"),
    ],
)
def test_a_statement_that_cannot_be_is_refused(trigger: AtStatement, worker: int | None, objection: str) -> None:
    with pytest.raises(PlanError, match=objection):
        validate(Plan(events=(Event(trigger=trigger, fault=TerminateBackend(), worker=worker),)))


def test_only_the_simulated_world_counts_statements() -> None:
    plan = Plan(events=(Event(trigger=AtStatement(number=3), fault=KillWorker(), worker=0),))
    refuse(plan, "sim")
    with pytest.raises(PlanError, match="only --world sim counts statements"):
        refuse(plan, "procs")


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (AtStatement(number=3), "kill worker 2 before its 3rd statement"),
        (AtStatement(number=1, where="inside", point=11), "kill worker 2 at the 11th point inside its 1st statement"),
        (AtStatement(number=2, where="after"), "kill worker 2 after its 2nd statement"),
    ],
)
def test_a_statement_is_named_in_words(trigger: AtStatement, words: str) -> None:
    assert describe(Event(trigger=trigger, fault=KillWorker(restart_after=None), worker=2)).startswith(words)


def test_no_kind_of_trigger_is_forgotten_here() -> None:
    assert set(Trigger.__subclasses__()) == {AtTime, AtPoint, AtStatement}
    assert len(list(itertools.chain(*coverage.faults(1.0).values()))) == 12
