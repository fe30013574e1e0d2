"""Plans drawn from a seed: the same seed and bounds give the same plan for ever.

Each seed allows itself only a random subset of the kinds (swarm testing, Groce et al., ISSTA 2012): a fault that masks
another in one run is absent from the next. Every drawn plan is within `Bounds`, so it can fire and be recovered from.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from duress.faults.bounds import EARLIEST, Bounds, admitted
from duress.faults.plan import (
    KINDS,
    AnyFault,
    AnyTrigger,
    AtPoint,
    AtTime,
    CrashBackend,
    Event,
    KillWorker,
    PauseWorker,
    Plan,
    RestartPostgres,
    StopWorker,
    TerminateBackend,
)

T = TypeVar("T")
ATTEMPTS = 30  # draws for one event before the plan does without it


class Draw:
    """Decisions from a source of randomness, by its `random()` only: Python keeps the sequence of no other method."""

    def __init__(self, source: Random) -> None:
        self._random: Callable[[], float] = source.random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def below(self, limit: int) -> int:
        """0 to limit - 1."""
        return int(self._random() * limit)

    def seconds(self, low: float, high: float) -> float:
        """Whole milliseconds, so that a plan is easy to read."""
        return round(low + self._random() * (high - low), 3)

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def weighted(self, weights: Sequence[tuple[T, float]]) -> T:
        left = self._random() * sum(weight for _, weight in weights)
        for choice, weight in weights:
            left -= weight
            if left < 0:
                return choice
        return weights[-1][0]


def generate(source: Random, bounds: Bounds | None = None) -> Plan:
    """A plan of 1 to `bounds.most_events` events, those with a time first."""
    bounds = bounds or Bounds()
    draw = Draw(source)
    kinds = _swarm(draw, bounds)
    events: tuple[Event, ...] = ()
    for number in range(1 + draw.below(bounds.most_events)):
        for _ in range(ATTEMPTS):
            more = admitted([*events, _event(draw, kinds, bounds)], bounds)
            if len(more) > number:
                events = more
                break
    return Plan(events=tuple(sorted(events, key=_reading_order)))


def _swarm(draw: Draw, bounds: Bounds) -> list[tuple[str, float]]:
    """The kinds of this seed with their weights, in the catalogue's order whatever the caller's."""
    allowed = [(kind, bounds.kinds[kind]) for kind in KINDS if bounds.kinds.get(kind)]
    chosen = [pair for pair in allowed if draw.chance(0.5)]
    return chosen or [draw.weighted([(pair, pair[1]) for pair in allowed])]


def _event(draw: Draw, kinds: list[tuple[str, float]], bounds: Bounds) -> Event:
    fault = _fault(draw, draw.weighted(kinds), bounds)
    worker = None if draw.chance(0.3) else draw.below(bounds.workers)
    return Event(trigger=_trigger(draw, bounds), fault=fault, worker=worker)


def _trigger(draw: Draw, bounds: Bounds) -> AnyTrigger:
    if draw.chance(0.5) or not bounds.places:
        return AtTime(seconds=draw.seconds(EARLIEST, bounds.horizon))
    point, step = draw.one_of(bounds.places)
    return AtPoint(point=point, step=step, occurrence=1 + draw.below(bounds.last_occurrence))


def _fault(draw: Draw, kind: str, bounds: Bounds) -> AnyFault:
    match kind:
        case "kill-worker":
            return KillWorker(restart_after=_absence(draw, bounds))
        case "pause-worker":
            # Three of four pauses outlast the lease: what a zombie then writes must be fenced.
            zombie = draw.chance(0.75)
            lease = bounds.lease
            low, high = (1.2 * lease, max(2.5 * lease, lease + 1.5)) if zombie else (0.1 * lease, 0.7 * lease)
            return PauseWorker(duration=max(0.001, draw.seconds(low, high)))
        case "stop-worker":
            return StopWorker(restart_after=_absence(draw, bounds))
        case "terminate-backend":
            return TerminateBackend()
        case "crash-backend":
            return CrashBackend()
        case "restart-postgres":
            down = draw.seconds(0.1, 1.0) if draw.chance(0.5) else 0.0
            return RestartPostgres(mode="fast" if draw.chance(0.5) else "immediate", down=down)
        case _:
            raise AssertionError(f"{kind} is in the catalogue but nobody draws it")


def _absence(draw: Draw, bounds: Bounds) -> float | None:
    """Mostly back before the lease is over, sometimes after it, now and then never."""
    if draw.chance(0.7):
        return draw.seconds(0.0, 0.5 * bounds.lease)
    return draw.seconds(bounds.lease, 2 * bounds.lease) if draw.chance(0.7) else None


def _reading_order(event: Event) -> tuple[int, float]:
    match event.trigger:
        case AtTime(seconds=seconds):
            return 0, seconds
        case AtPoint(occurrence=occurrence):
            return 1, occurrence
