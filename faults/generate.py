"""Plans drawn from a seed: the same seed and bounds give the same plan for ever.

Each seed allows itself only a random subset of the kinds (swarm testing, Groce et al., ISSTA 2012): a fault that masks
another in one run is absent from the next. Every drawn plan is within `Bounds`, so it can fire and be recovered from.
"""

from random import Random

from duress.faults.bounds import Bounds, admitted
from duress.faults.details import DRAWN
from duress.faults.draw import Draw
from duress.faults.plan import KINDS, AnyTrigger, AtPoint, AtStatement, AtTime, Event, Plan

SWARM = 3  # kinds that a seed has on average: with more of them it would seldom be seen what a few do
ATTEMPTS = 30  # draws for one event before the plan does without it


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
    share = min(0.5, SWARM / len(allowed))
    chosen = [pair for pair in allowed if draw.chance(share)]
    return chosen or [draw.weighted([(pair, pair[1]) for pair in allowed])]


def _event(draw: Draw, kinds: list[tuple[str, float]], bounds: Bounds) -> Event:
    fault = DRAWN[draw.weighted(kinds)](draw, bounds)
    worker = None if draw.chance(0.3) else draw.below(bounds.workers)
    return Event(trigger=_trigger(draw, bounds), fault=fault, worker=worker)


def _trigger(draw: Draw, bounds: Bounds) -> AnyTrigger:
    if draw.chance(0.5) or not bounds.places:
        return AtTime(seconds=draw.seconds(bounds.earliest, bounds.horizon))
    point, step = draw.one_of(bounds.places)
    return AtPoint(point=point, step=step, occurrence=1 + draw.below(bounds.last_occurrence))


def _reading_order(event: Event) -> tuple[int, float]:
    match event.trigger:
        case AtTime(seconds=seconds):
            return 0, seconds
        case AtPoint(occurrence=occurrence):
            return 1, occurrence
        case AtStatement(number=number):
            return 2, number
