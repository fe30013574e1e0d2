"""A plan means what it says: sentences, JSON, and an error that names the field for everything that is wrong."""

from pathlib import Path

import pytest

from duress.faults.plan import (
    AtPoint,
    AtTime,
    CrashBackend,
    Event,
    KillWorker,
    PauseWorker,
    Plan,
    PlanError,
    RestartPostgres,
    StopWorker,
    TerminateBackend,
    describe,
)
from duress.faults.planfile import dumps, load, loads, save
from duress.faults.validation import validate

SOON = AtTime(seconds=0.4)
CHARGE = AtPoint(point="step.checkpointing", occurrence=3, step="charge")


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (
            Event(trigger=CHARGE, fault=KillWorker(), worker=2),
            "kill worker 2 at its 3rd step.checkpointing of charge; restart it after 0.3 s",
        ),
        (
            Event(trigger=SOON, fault=KillWorker(restart_after=None)),
            "kill the busiest worker at 0.4 s; it stays away",
        ),
        (
            Event(trigger=AtPoint(point="workflow.claimed"), fault=PauseWorker(duration=2.5)),
            "pause the first worker at its 1st workflow.claimed for 2.5 s",
        ),
        (
            Event(trigger=SOON, fault=StopWorker(restart_after=0), worker=0),
            "stop worker 0 gracefully at 0.4 s; restart it after 0 s",
        ),
        (
            Event(trigger=AtPoint(point="step.committing", occurrence=11), fault=TerminateBackend(), worker=1),
            "terminate a session of worker 1 at its 11th step.committing",
        ),
        (
            Event(trigger=AtPoint(point="step.ended", occurrence=2), fault=CrashBackend(), worker=1),
            "crash the server by a SIGKILL to a backend of worker 1 at its 2nd step.ended",
        ),
        (
            Event(trigger=SOON, fault=RestartPostgres(mode="immediate", down=1)),
            "restart PostgreSQL (immediate) at 0.4 s; it stays away for 1 s",
        ),
        (
            Event(trigger=AtPoint(point="step.ended", occurrence=22), fault=RestartPostgres(), worker=3),
            "restart PostgreSQL (fast) when worker 3 is at its 22nd step.ended",
        ),
    ],
)
def test_an_event_reads_as_a_sentence(event: Event, sentence: str) -> None:
    assert describe(event) == sentence


def plan_text(**changes: str) -> str:
    """The JSON of a good plan of one event, with parts replaced."""
    parts = {
        "version": "1",
        "trigger": '{"at": "time", "seconds": 0.4}',
        "fault": '{"kind": "pause-worker", "duration": 2.0}',
        "rest": "",
    } | changes
    event = f'{{"trigger": {parts["trigger"]}, "fault": {parts["fault"]}{parts["rest"]}}}'
    return f'{{"version": {parts["version"]}, "events": [{event}]}}'


def test_the_text_that_the_bad_ones_are_made_from_is_good() -> None:
    loads(plan_text(), workers=1, points=set())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # The form.
        ("{", ["not JSON"]),
        (b"\xff\xfe", ["not JSON"]),
        ("[]", ["the plan is []", "expected object"]),
        ('{"event": []}', ["event is no field of a plan", "version, events"]),
        (plan_text(version="2"), ["version is 2", "reads version 1"]),
        ('{"version": 99, "acts": "of a later release"}', ["version is 99", "reads version 1"]),
        (plan_text(version='"1"'), ["version is '1'", "reads version 1"]),
        (plan_text(fault='{"kind": "pause-worker"}'), ["events[0].fault.duration is missing", "seconds"]),
        (plan_text(fault='{"duration": 1}'), ["events[0].fault.kind is missing", "kill-worker", "restart-postgres"]),
        (
            plan_text(fault='{"kind": "pause-wroker", "duration": 1}'),
            ["events[0].fault.kind is 'pause-wroker'", "did you mean 'pause-worker'?", "crash-backend"],
        ),
        (
            plan_text(fault='{"kind": "pause-worker", "duration": "2 s"}'),
            ["events[0].fault.duration is '2 s'", "expected float"],
        ),
        (
            plan_text(fault='{"kind": "kill-worker", "restart_afer": 1}'),
            ["events[0].fault.restart_afer is no field", "kind, restart_after"],
        ),
        (
            plan_text(fault='{"kind": "restart-postgres", "mode": "smart"}'),
            ["events[0].fault.mode is 'smart'", "fast, immediate"],
        ),
        (plan_text(trigger='{"at": "tme", "seconds": 1}'), ["events[0].trigger.at is 'tme'", "did you mean 'time'?"]),
        (plan_text(trigger='{"at": "time"}'), ["events[0].trigger.seconds is missing"]),
        (plan_text(trigger='{"at": "point"}'), ["events[0].trigger.point is missing", "step.checkpointing"]),
        (plan_text(rest=', "worker": "two"'), ["events[0].worker is 'two'", "expected int | null"]),
        (plan_text(rest=', "wrker": 2'), ["events[0].wrker is no field", "trigger, fault, worker"]),
        ('{"events": [{"fault": {"kind": "kill-worker"}}]}', ["events[0].trigger is missing", '"seconds": 0.4']),
        # The meaning.
        (plan_text(trigger='{"at": "time", "seconds": -1}'), ["events[0].trigger.seconds is -1.0", "0 or more"]),
        (
            plan_text(fault='{"kind": "pause-worker", "duration": 0}'),
            ["events[0].fault.duration is 0.0", "more than 0"],
        ),
        (
            plan_text(fault='{"kind": "kill-worker", "restart_after": -0.1}'),
            ["events[0].fault.restart_after is -0.1", "or null for never"],
        ),
        (
            plan_text(fault='{"kind": "stop-worker", "restart_after": -2}'),
            ["events[0].fault.restart_after is -2.0", "0 or more"],
        ),
        (
            plan_text(fault='{"kind": "restart-postgres", "down": -2}'),
            ["events[0].fault.down is -2.0", "0 or more"],
        ),
        (plan_text(rest=', "worker": 4'), ["events[0].worker is 4", "0 to 3", "--workers 5"]),
        (plan_text(rest=', "worker": -1'), ["events[0].worker is -1", "from 0"]),
        (
            plan_text(trigger='{"at": "point", "point": "step.chekpointing"}'),
            ["events[0].trigger.point is 'step.chekpointing'", "did you mean 'step.checkpointing'?"],
        ),
        (
            plan_text(trigger='{"at": "point", "point": "xyz"}'),
            ["events[0].trigger.point is 'xyz'", "it announces step.checkpointing, workflow.claimed"],
        ),
        (
            plan_text(trigger='{"at": "point", "point": "workflow.claimed", "occurrence": 0}'),
            ["events[0].trigger.occurrence is 0", "from 1"],
        ),
        (
            plan_text(trigger='{"at": "point", "point": "workflow.claimed", "step": "charge"}'),
            ["events[0].trigger.step is 'charge'", "leave it out for 'workflow.claimed'"],
        ),
        (
            plan_text(trigger='{"at": "point", "point": "step.checkpointing", "step": ""}'),
            ["events[0].trigger.step is ''", "name of a step"],
        ),
    ],
)
def test_a_bad_plan_is_refused_by_field_value_and_remedy(text: str | bytes, said: list[str]) -> None:
    with pytest.raises(PlanError) as caught:
        loads(text, workers=4, points={"workflow.claimed", "step.checkpointing"})
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize("point", ["checkpoint", "Step.started", "step.", "step started", "step.x;drop"])
def test_without_known_points_a_name_must_look_like_one(point: str) -> None:
    event = Event(trigger=AtPoint(point=point), fault=TerminateBackend())
    with pytest.raises(PlanError, match=r"events\[0\]\.trigger\.point"):
        validate(Plan(events=(event,)))
    validate(Plan(events=(Event(trigger=AtPoint(point="worker.took-over"), fault=TerminateBackend()),)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_refused(value: float) -> None:
    with pytest.raises(PlanError, match=r"events\[0\]\.trigger\.seconds"):
        validate(Plan(events=(Event(trigger=AtTime(seconds=value), fault=TerminateBackend()),)))
    with pytest.raises(PlanError, match=r"events\[0\]\.fault\.duration"):
        validate(Plan(events=(Event(trigger=SOON, fault=PauseWorker(duration=value)),)))


def test_a_repeated_event_is_refused_and_the_first_is_named() -> None:
    event = Event(trigger=SOON, fault=KillWorker(), worker=1)
    other = Event(trigger=SOON, fault=KillWorker(), worker=2)
    with pytest.raises(PlanError, match=r"events\[2\] is 'kill-worker': it repeats events\[0\]"):
        validate(Plan(events=(event, other, event)))
    validate(Plan(events=(event, other)))


def test_somebody_must_be_left_to_finish() -> None:
    gone = tuple(Event(trigger=SOON, fault=KillWorker(restart_after=None), worker=number) for number in range(2))
    with pytest.raises(PlanError, match=r"events\[1\]\.fault\.restart_after is None: this leaves none of the 2"):
        validate(Plan(events=gone), workers=2)
    validate(Plan(events=gone), workers=3)
    anyone = (gone[0], Event(trigger=CHARGE, fault=StopWorker(restart_after=None)))
    with pytest.raises(PlanError, match="leaves none"):
        validate(Plan(events=anyone), workers=2)


def test_a_plan_of_another_version_is_refused_without_a_file_too() -> None:
    with pytest.raises(PlanError, match="version is 2: this duress reads version 1"):
        validate(Plan(version=2))


def test_all_objections_are_given_at_once() -> None:
    bad = Event(trigger=AtTime(seconds=-1), fault=PauseWorker(duration=-1), worker=9)
    with pytest.raises(PlanError) as caught:
        validate(Plan(events=(bad,)), workers=4)
    assert len(caught.value.objections) == 3


def test_a_file_holds_a_plan_and_errors_name_the_file(tmp_path: Path) -> None:
    plan = Plan(events=(Event(trigger=CHARGE, fault=KillWorker(), worker=2),))
    path = tmp_path / "deep" / "seed-7.plan.json"
    save(plan, path)
    assert load(path) == plan
    assert '"kind": "kill-worker"' in path.read_text()
    path.write_text("{")
    with pytest.raises(PlanError, match=r"seed-7\.plan\.json: not JSON"):
        load(path)
    with pytest.raises(PlanError, match=r"missing\.json: cannot be read: No such file"):
        load(tmp_path / "missing.json")


def test_what_is_left_out_has_a_stated_default() -> None:
    text = '{"events": [{"trigger": {"at": "time", "seconds": 1}, "fault": {"kind": "kill-worker"}}]}'
    event = Event(trigger=AtTime(seconds=1), fault=KillWorker(restart_after=0.3), worker=None)
    assert loads(text) == Plan(events=(event,))
    assert loads("{}") == Plan()
    assert '"version": 1' in dumps(Plan())
