"""Within what plans are drawn: the bounds that keep a drawn plan able to fire, and a run able to recover from it.

A storm that leaves nobody to recover proves nothing, and neither does a fault whose moment cannot come. The rules are
for drawn plans only: whoever writes a plan by hand may go beyond them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from duress.faults.plan import (
    KINDS,
    OUTAGES,
    WORKER_FAULTS,
    AtPoint,
    AtTime,
    ClockJump,
    ClockSkew,
    Event,
    Failover,
    Plan,
    PlanError,
    Pooler,
)
from duress.faults.validation import did_you_mean, ends_for_good, validate

Place = tuple[str, str | None]  # an engine point, and the step's name that narrows it or None

# Points that any workload passes often; the first three are the k-th claim, checkpoint and commit.
USUAL_PLACES: tuple[Place, ...] = (
    ("workflow.claimed", None),
    ("step.checkpointing", None),
    ("step.committing", None),
    ("step.started", None),
    ("step.ended", None),
    ("step.checkpointed", None),
    ("workflow.finishing", None),
)
MOST_OUTAGES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What plans are drawn for, and how much they may ask. Raises PlanError for a kind that is not in the catalogue."""

    workers: int = 4
    lease: float = 1.0  # seconds
    earliest: float = 0.2  # seconds; before that a worker may have no work in flight
    horizon: float = 3.0  # seconds; the last moment of a time trigger
    respawn: float = 0.5  # seconds that a started worker needs at most to have work in flight again, beside its lease
    calm_after_outage: float = 1.0  # seconds from the return of the server to the next outage
    kinds: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 1.0))  # allowed kinds → weight
    places: tuple[Place, ...] = USUAL_PLACES  # where point triggers may lie: places that every worker reaches often
    most_events: int = 5
    last_occurrence: int = 6

    def __post_init__(self) -> None:
        for name, weight in self.kinds.items():
            if name not in KINDS:
                raise PlanError(f"kinds: {name!r} is no fault of the catalogue{did_you_mean(name, KINDS)}")
            if weight < 0:
                raise PlanError(f"kinds: the weight of {name!r} is {weight!r}: must be 0 or more")
        if not any(self.kinds.values()):
            raise PlanError(f"kinds: none is allowed; choose from {', '.join(KINDS)}")
        if self.workers < 1:
            raise PlanError(f"workers: {self.workers!r} leaves nobody to work; must be 1 or more")
        if self.horizon < self.earliest:
            raise PlanError(
                f"horizon: {self.horizon!r} s is over before a worker has work; must be {self.earliest} or more"
            )

    @property
    def most_down(self) -> int:
        """How many workers may be away at once. A single worker may go away too: it has to recover by itself."""
        return max(1, self.workers - 1)

    @property
    def longest(self) -> float:
        """Seconds that a single fault may last: a paused worker's transaction has to outlast its lease by more than a second,
        which is how long it may hold up its successor.
        """
        return max(3 * self.lease, self.lease + 1.5)


def admitted(events: Iterable[Event], bounds: Bounds) -> tuple[Event, ...]:
    """Those of `events` that can be had together, the earlier in order first."""
    kept: list[Event] = []
    for event in events:
        if objection([*kept, event], bounds) is None:
            kept.append(event)
    return tuple(kept)


def objection(events: list[Event], bounds: Bounds) -> str | None:
    """Why these events are not a plan within bounds; None if they are one."""
    return next(_objections(events, bounds), None)


def _objections(events: list[Event], bounds: Bounds) -> Iterator[str]:
    try:
        validate(Plan(events=tuple(events)), workers=bounds.workers, points={point for point, _ in bounds.places})
    except PlanError as error:
        yield str(error)
    if len(events) > bounds.most_events:
        yield f"more than {bounds.most_events} events"
    for event in events:
        yield from _beyond(event, bounds)
    yield from _too_many_down(events, bounds)
    yield from _gone_for_good(events, bounds)
    yield from _too_many_outages(events)
    yield from _two_servers(events)
    for later, event in enumerate(events):
        for other in events[:later]:
            yield from _too_close(other, event, bounds)
            yield from _undone(other, event)


def _beyond(event: Event, bounds: Bounds) -> Iterator[str]:
    match event.trigger:
        case AtTime(seconds=seconds):
            if not bounds.earliest <= seconds <= bounds.horizon:
                yield f"{seconds} s is outside {bounds.earliest} to {bounds.horizon} s"
        case AtPoint(occurrence=occurrence):
            if occurrence > bounds.last_occurrence:
                yield f"occurrence {occurrence} may never come"
    if lasts(event) > bounds.longest:
        yield f"{lasts(event)} s is longer than {bounds.longest} s"


def lasts(event: Event) -> float:
    """Seconds from the effect until the fault heals by itself; 0 for what heals at once or never."""
    times = (getattr(event.fault, field, None) for field in ("duration", "down", "restart_after"))
    return next((seconds for seconds in times if seconds is not None), 0.0)


def _too_many_down(events: list[Event], bounds: Bounds) -> Iterator[str]:
    """A bound on victims, not on moments: when point triggers fire is not known, so all of them may fire together."""
    away = [event.worker for event in events if isinstance(event.fault, WORKER_FAULTS)]
    if len(set(away) - {None}) + away.count(None) > bounds.most_down:
        yield f"more than {bounds.most_down} of {bounds.workers} workers may be away at once"


def _gone_for_good(events: list[Event], bounds: Bounds) -> Iterator[str]:
    """A worker that never comes back is one fewer for all other faults, so there is at most one."""
    gone = [event for event in events if ends_for_good(event)]
    if len(gone) > 1 or (gone and bounds.workers == 1):
        yield "too many workers go away for good"
    for event in gone:
        if event.worker is None or sum(other.worker == event.worker for other in events) > 1:
            yield "another fault may find its worker gone for good"


def _two_servers(events: list[Event]) -> Iterator[str]:
    """A pair fails over once; a worker is led through a pooler before a single server only."""
    failovers = sum(isinstance(event.fault, Failover) for event in events)
    if failovers > 1:
        yield "there is one standby to fail over to"
    if failovers and any(isinstance(event.fault, Pooler) for event in events):
        yield "no pooler stands before two servers"


def _too_many_outages(events: list[Event]) -> Iterator[str]:
    outages = [event for event in events if isinstance(event.fault, OUTAGES)]
    if len(outages) > MOST_OUTAGES:
        yield f"more than {MOST_OUTAGES} outages of the server"
    if sum(isinstance(event.trigger, AtPoint) for event in outages) > 1:
        yield "two outages of the server could come at any distance from each other"


def _too_close(one: Event, two: Event, bounds: Bounds) -> Iterator[str]:
    """Whether one of them may find no victim because of the other."""
    outages = isinstance(one.fault, OUTAGES) and isinstance(two.fault, OUTAGES)
    same_worker = one.worker == two.worker or None in (one.worker, two.worker)
    match one.trigger, two.trigger:
        case AtTime(), AtTime():
            first, second = sorted((one, two), key=_seconds)
            gap = _seconds(second) - _seconds(first) - lasts(first)
            if outages and gap < bounds.calm_after_outage:
                yield "two outages of the server follow each other too soon"
            if same_worker and isinstance(first.fault, WORKER_FAULTS) and gap < bounds.lease + bounds.respawn:
                yield "its worker may be away"
            if one.trigger == two.trigger and same_worker:
                yield "two faults at the same moment on the same worker"
        case AtPoint(), AtPoint():
            # A worker held at a point that two triggers name would be struck twice; two steps may be one and the same.
            same_place = one.trigger.point == two.trigger.point and (
                one.trigger.step != two.trigger.step or one.trigger.occurrence == two.trigger.occurrence
            )
            if same_place and same_worker:
                yield "two faults at the same point on the same worker"


def _undone(one: Event, two: Event) -> Iterator[str]:
    """A clock that is as much ahead as it was set back is right: nobody could tell that anything was done to it."""
    wrong = [
        event.fault.seconds
        for event in (one, two)
        if isinstance(event.fault, ClockSkew) or (isinstance(event.fault, ClockJump) and event.fault.of == "worker")
    ]
    if len(wrong) == 2 and sum(wrong) == 0 and (one.worker == two.worker or None in (one.worker, two.worker)):
        yield "one of them may undo what the other does to a clock"


def _seconds(event: Event) -> float:
    assert isinstance(event.trigger, AtTime)
    return event.trigger.seconds
