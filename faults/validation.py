"""What a plan must satisfy beyond its types; each objection names the field, the value and what would be right."""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterator

from duress.faults.plan import (
    PLAN_VERSION,
    AtPoint,
    AtStatement,
    AtTime,
    ClockJump,
    ClockSkew,
    Event,
    Fault,
    KillWorker,
    Plan,
    PlanError,
    StopWorker,
    Trigger,
    kind,
)

# The form of a point's name, for callers that do not know the points of the program under test.
POINT_NAME = re.compile(r"[a-z]+(-[a-z]+)*(\.[a-z]+(-[a-z]+)*)+")


def validate(plan: Plan, *, workers: int | None = None, points: Collection[str] | None = None) -> Plan:
    """Return `plan` if it makes sense, else raise PlanError with all objections.

    `workers` is the number of workers of the run and `points` the names of the points that its workers announce; what
    is None is not known, and then a worker's number may be any and a point's name only has to look like one.
    """
    objections = list(_objections(plan, workers, points))
    if objections:
        raise PlanError(*objections)
    return plan


def wrong(field: str, value: object, right: str) -> str:
    """One objection, worded the same everywhere."""
    return f"{field} is {value!r}: {right}"


def did_you_mean(name: object, known: Collection[str]) -> str:
    """`; did you mean …?` for a name that looks like a known one, else the empty string."""
    close = difflib.get_close_matches(str(name), sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _objections(plan: Plan, workers: int | None, points: Collection[str] | None) -> Iterator[str]:
    if plan.version != PLAN_VERSION:
        yield wrong("version", plan.version, f"this duress reads version {PLAN_VERSION}")
    first_of: dict[Event, int] = {}
    for index, event in enumerate(plan.events):
        where = f"events[{index}]"
        yield from _of_trigger(event.trigger, f"{where}.trigger", points)
        yield from _of_fault(event.fault, f"{where}.fault")
        yield from _of_worker(event.worker, f"{where}.worker", workers)
        if isinstance(event.trigger, AtStatement) and event.worker is None:
            yield wrong(f"{where}.worker", None, "statements are counted for each worker: name one")
        first = first_of.setdefault(event, index)
        if first != index:
            yield wrong(where, kind(event.fault), f"it repeats events[{first}] exactly; leave one of the two out")
    yield from _nobody_left(plan, workers)


def _of_trigger(trigger: Trigger, where: str, points: Collection[str] | None) -> Iterator[str]:
    match trigger:
        case AtTime(seconds=seconds):
            if not (math.isfinite(seconds) and seconds >= 0):
                yield wrong(f"{where}.seconds", seconds, "must be 0 or more seconds after the workload began")
        case AtPoint(point=point, occurrence=occurrence, step=step):
            if points is not None and point not in points:
                right = f"the workers announce no such point{did_you_mean(point, points) or _listed(points)}"
                yield wrong(f"{where}.point", point, right)
            elif not POINT_NAME.fullmatch(point):
                yield wrong(f"{where}.point", point, "must look like 'step.checkpointing': lower case, with a dot")
            if occurrence < 1:
                yield wrong(f"{where}.occurrence", occurrence, "occurrences are counted from 1")
            if step is not None and not point.startswith("step."):
                yield wrong(f"{where}.step", step, f"only points 'step.…' belong to a step; leave it out for {point!r}")
            elif step is not None and not step:
                yield wrong(f"{where}.step", step, "must be the name of a step, or left out for any step")
        case AtStatement():
            yield from _of_statement(trigger, where)


def _of_statement(trigger: AtStatement, where: str) -> Iterator[str]:
    if trigger.number < 1:
        yield wrong(f"{where}.number", trigger.number, "statements are counted from 1")
    if trigger.where == "inside" and trigger.point < 1:
        yield wrong(f"{where}.point", trigger.point, "points inside a statement are counted from 1")
    if trigger.where != "inside" and trigger.point:
        right = f"only where='inside' has points; leave it out {trigger.where} a statement"
        yield wrong(f"{where}.point", trigger.point, right)


def _of_fault(fault: Fault, where: str) -> Iterator[str]:
    for field in fault.__struct_fields__:
        value = getattr(fault, field)
        if field in _RIGHT and value is not None and not (math.isfinite(value) and _RIGHT[field][0](value)):
            yield wrong(f"{where}.{field}", value, _RIGHT[field][1])
    match fault:
        case ClockSkew(seconds=0, drift=0) | ClockJump(seconds=0):
            yield wrong(f"{where}.seconds", fault.seconds, "a clock that is not moved is right; say by how much it is")
        case ClockJump(of="server", seconds=seconds) if seconds < 0:
            right = "the server's clock is set forward only: nobody could tell the order of what it dates twice"
            yield wrong(f"{where}.seconds", seconds, right)


# Field → what its value must satisfy, and that in words.
_RIGHT: dict[str, tuple[Callable[[float], bool], str]] = {
    "restart_after": (lambda value: value >= 0, "must be 0 or more seconds, or null for never"),
    "duration": (lambda value: value > 0, "must be more than 0 seconds"),
    "timeout": (lambda value: value >= 0.001, "must be 0.001 or more seconds: PostgreSQL counts milliseconds"),
    "down": (lambda value: value >= 0, "must be 0 or more seconds"),
    "latency": (lambda value: value >= 0, "must be 0 or more seconds"),
    "jitter": (lambda value: value >= 0, "must be 0 or more seconds"),
    "bandwidth": (lambda value: value > 0, "must be 1 or more bytes a second, or null for any number"),
    "drift": (lambda value: -0.5 <= value <= 0.5, "must be a fraction from -0.5 to 0.5; 0.01 is 1 % too fast"),
    "seconds": (lambda value: -1e9 < value < 1e9, "must be seconds, ahead or (below 0) behind"),
}


def _of_worker(worker: int | None, where: str, workers: int | None) -> Iterator[str]:
    if worker is None:
        return
    if worker < 0:
        yield wrong(where, worker, "workers are counted from 0; leave it out for any worker")
    elif workers is not None and worker >= workers:
        known = "the only worker is 0" if workers == 1 else f"the workers are 0 to {workers - 1}"
        yield wrong(where, worker, f"{known}; leave it out for any worker, or run with --workers {worker + 1}")


def ends_for_good(event: Event) -> bool:
    """Whether the event takes a worker away that does not come back."""
    return isinstance(event.fault, KillWorker | StopWorker) and event.fault.restart_after is None


def _nobody_left(plan: Plan, workers: int | None) -> Iterator[str]:
    """After the last fault the workload must finish, so somebody must be there to do it."""
    ended = [index for index, event in enumerate(plan.events) if ends_for_good(event)]
    victims = {plan.events[index].worker for index in ended} - {None}
    anyone = sum(plan.events[index].worker is None for index in ended)
    if workers is not None and ended and len(victims) + anyone >= workers:
        right = f"this leaves none of the {workers} workers to finish the workload; let one of them come back"
        yield wrong(f"events[{ended[-1]}].fault.restart_after", None, right)


def _listed(points: Collection[str]) -> str:
    return f"; it announces {', '.join(sorted(points))}" if points else ""
