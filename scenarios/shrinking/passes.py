"""What is tried to make a failing run smaller, in the order of what is gained by it, until nothing more can be left out.

Each pass proposes variants and is sent the trial if that still breaks the promise, else None.
"""

import dataclasses
import random
import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

import msgspec

from duress.faults.plan import AtPoint, AtTime, Event, Plan
from duress.scenarios import history
from duress.scenarios.shrinking.variant import Recorded, Trial, Variant
from duress.simulator import shrinking
from duress.simulator.choices import FINE

Pass = Generator[Variant, Trial | None, Trial]

# Decisions are made plain in stretches so long at least; single ones only when nothing else gets smaller any more.
FINEST: Final = (64, 8, 1)
MOST_STRETCHES: Final = 120  # with more of them it would take too long
SUSPECT_DRAWS: Final = 6  # orders that are drawn for the one piece that is to blame
ROUND: Final = (2, 3)  # digits of a second that a time may be rounded to
LEAST_TIME: Final = 2.0  # seconds for the workload and the faults of a small run
LATER: Final = (4.0, 2.0, 1.5)  # times as late


def smaller(found: Trial) -> Pass:
    """The smallest that is found. Of what it has left, no single fault and no piece of the work can go."""
    for finest in FINEST:
        while True:
            before = _weight(found)
            for reduce in (_wanted, _plain, _faults, _pieces, _workers, _sizes, _occurrences):
                found = yield from reduce(found)
            if shrinking.weight(found.variant.choices or {})[0] <= MOST_STRETCHES * finest:
                found = yield from _choices(found, finest)
            for reduce in (_aimed, _times):
                found = yield from reduce(found)
            if _weight(found) == before:
                break
    return found


def _weight(found: Trial) -> tuple[Any, ...]:
    variant = found.variant
    assert variant.choices is not None
    sizes = sum(variant.options.values())
    unaimed = sum(event.worker is None for event in variant.plan.events)
    only = variant.settings.only
    pieces = len(found.pieces) if only is None else len(only)
    times = msgspec.json.encode(variant.plan)
    return (
        len(variant.plan.events),
        pieces,
        variant.settings.workers,
        sizes,
        *shrinking.weight(variant.choices),
        unaimed,
        times,
    )


def _changed(found: Trial, redraws: int = 1, **changes: Any) -> Generator[Variant, Trial | None, Trial | None]:
    """The run with these changes: in the order that it has, in asyncio's, in that which its seed now draws, or in some other.

    After a change, recorded decisions answer other questions. What broke the promise may need only some of them.
    """
    for choices in (found.variant.choices, {}, None, *(_drawn(found, number) for number in range(redraws))):
        trial = yield dataclasses.replace(found.variant, choices=choices, **changes)
        if trial is not None:
            return trial
    return None


def _drawn(found: Trial, number: int) -> Recorded:
    """Decisions that are drawn anew: plain ones half of the time where somebody goes first, and any latency."""
    source = random.Random(f"shrink {number}")
    return {
        stream: tuple(
            int(source.random() * FINE) if stream == "network" else int(source.random() * 16) % 15 // 2
            for _ in range(2 * len(values))
        )
        for stream, values in sorted((found.variant.choices or {}).items())
    }


def _plain(found: Trial) -> Pass:
    """All in asyncio's order, and at the least latency."""
    trial = yield dataclasses.replace(found.variant, choices={})
    return trial or found


def _faults(found: Trial) -> Pass:
    """Fewer faults: none, then without each."""
    if found.variant.plan.events:
        found = (yield from _changed(found, plan=Plan())) or found
    place = 0
    while place < len(events := found.variant.plan.events):
        rest = events[:place] + events[place + 1 :]
        trial = (yield from _changed(found, plan=Plan(events=rest))) if rest else None
        found, place = (trial, place) if trial is not None else (found, place + 1)
    return found


def _wanted(found: Trial) -> Pass:
    """Work that ends with what was done, whether or not faults are still to come, and no long wait for those that do not.

    First of all: in another order of events a fault may come late or never, and the work would go on until then.
    """
    settings = found.variant.settings
    if settings.until == "wanted" and settings.only is not None:
        return found
    bounded = dataclasses.replace(
        settings, until="wanted", only=found.pieces or None, max_time=min(settings.max_time, _patience(found))
    )
    return (yield from _changed(found, settings=bounded)) or found


def _patience(found: Trial) -> float:
    """Seconds for workload and faults: what they took, and half of that."""
    began = [entry.at for entry in found.observed.evidence.history if entry.name == history.CALM_BEGAN]
    return max(LEAST_TIME, round(1.5 * max(began, default=0.0), 1))


def _pieces(found: Trial) -> Pass:
    """Less work: the piece that the promise was broken to, half of the pieces, a quarter, …, and without each."""
    only = found.variant.settings.only
    if only is None:
        return found
    if len(only) > 1 and (suspect := _suspect(found)) is not None:
        trial = yield from _without_pieces(found, (suspect,), SUSPECT_DRAWS)
        if trial is not None:
            return trial
    chunk = max(1, len(only) // 2)
    while True:
        start = 0
        while start < len(only) > 1:
            rest = only[:start] + only[start + chunk :]
            trial = (yield from _without_pieces(found, rest, 1)) if rest else None
            if trial is None:
                start += chunk
            else:
                found, only = trial, rest
        if chunk == 1:
            return found
        chunk //= 2


def _suspect(found: Trial) -> int | None:
    """The piece whose number the workflow carries that the promise was broken to; only a guess."""
    number = re.search(r"[0-9]+$", found.workflow or "")
    only = found.variant.settings.only or ()
    return int(number[0]) if number is not None and int(number[0]) in only else None


def _without_pieces(
    found: Trial, rest: tuple[int, ...], redraws: int
) -> Generator[Variant, Trial | None, Trial | None]:
    """With these pieces only. Where there is less work, a worker comes to a point less often, and it may be another one."""
    settings = dataclasses.replace(found.variant.settings, only=rest)
    plan = found.variant.plan
    easier = _each(plan, _easier)
    longer = _each(easier, _longer)
    for place, one in enumerate(plans := [plan, easier, longer]):
        if one in plans[:place]:
            continue
        trial = yield from _changed(found, redraws, settings=settings, plan=one)
        if trial is not None:
            return trial
    return None


def _each(plan: Plan, change: Callable[[Event], Event]) -> Plan:
    return Plan(events=tuple(change(event) for event in plan.events))


def _easier(event: Event) -> Event:
    """Whichever worker is the first to come to the point."""
    if not isinstance(event.trigger, AtPoint):
        return event
    return msgspec.structs.replace(event, trigger=msgspec.structs.replace(event.trigger, occurrence=1), worker=None)


def _longer(event: Event) -> Event:
    """Twice as long, for what must last longer than a lease."""
    duration = getattr(event.fault, "duration", None)
    if not isinstance(duration, float):
        return event
    return msgspec.structs.replace(event, fault=msgspec.structs.replace(event.fault, duration=round(2 * duration, 3)))


def _sooner(event: Event) -> Event:
    if not isinstance(event.trigger, AtPoint):
        return event
    occurrence = max(1, event.trigger.occurrence - 1)
    return msgspec.structs.replace(event, trigger=msgspec.structs.replace(event.trigger, occurrence=occurrence))


def _occurrences(found: Trial) -> Pass:
    """Faults that come at a point one occurrence sooner."""
    plan = _each(found.variant.plan, _sooner)
    if plan == found.variant.plan:
        return found
    return (yield dataclasses.replace(found.variant, plan=plan)) or found


def _workers(found: Trial) -> Pass:
    """Fewer workers: without one that no fault is aimed at; those after it move up."""
    number = found.variant.settings.workers - 1
    while number >= 0 and found.variant.settings.workers > 1:
        events = _without_worker(found.variant.plan.events, number)
        if events is not None:
            fewer = dataclasses.replace(found.variant.settings, workers=found.variant.settings.workers - 1)
            found = (yield from _changed(found, settings=fewer, plan=Plan(events=events))) or found
        number -= 1
    return found


def _without_worker(events: Sequence[Event], number: int) -> tuple[Event, ...] | None:
    if any(event.worker == number for event in events):
        return None
    return tuple(
        msgspec.structs.replace(event, worker=event.worker - 1)
        if event.worker is not None and event.worker > number
        else event
        for event in events
    )


def _sizes(found: Trial) -> Pass:
    """The scenario's own sizes: 1, then half, then one less."""
    for name in sorted(found.variant.options):
        for size in _below(found.variant.options[name]):
            if size < found.variant.options[name]:
                options = {**found.variant.options, name: size}
                found = (yield dataclasses.replace(found.variant, options=options)) or found
    return found


def _below(size: int) -> list[int]:
    """Smaller sizes, the smallest first: powers of two, half, and one less."""
    powers = {1 << shift for shift in range(size.bit_length())}
    return sorted(one for one in {*powers, size // 2, size - 1} if 1 <= one < size)


def _choices(found: Trial, finest: int) -> Pass:
    """Asyncio's order and the least latency, wherever they do."""
    assert found.variant.choices is not None
    search = shrinking.simpler(found.variant.choices, finest)
    latest: dict[int, Trial] = {}
    try:
        proposal = next(search)
        while True:
            trial = yield dataclasses.replace(found.variant, choices=proposal)
            made = None if trial is None else trial.variant.choices
            if trial is not None and made is not None:
                latest[id(made)] = trial
            proposal = search.send(made)
    except StopIteration as end:
        return latest.get(id(end.value), found)


def _aimed(found: Trial) -> Pass:
    """Faults of any worker aimed at the one that they struck: it says more."""
    for place, event in enumerate(found.variant.plan.events):
        struck = found.observed.faults[place].worker
        if event.worker is None and struck is not None:
            found = (yield from _one_event(found, place, msgspec.structs.replace(event, worker=struck))) or found
    return found


def _times(found: Trial) -> Pass:
    """Faults at rounder times, and as late as may be."""
    for place in range(len(found.variant.plan.events)):
        trigger = found.variant.plan.events[place].trigger
        if not isinstance(trigger, AtTime):
            continue
        times = [trigger.seconds * factor for factor in LATER] + [trigger.seconds]
        for seconds in dict.fromkeys(round(time, digits) for digits in ROUND for time in times):
            event = found.variant.plan.events[place]
            if not isinstance(event.trigger, AtTime) or not _plainer(seconds, event.trigger.seconds):
                continue
            moved = msgspec.structs.replace(event, trigger=AtTime(seconds=seconds))
            found = (yield from _one_event(found, place, moved)) or found
    return found


def _plainer(seconds: float, than: float) -> bool:
    """Fewer digits, or as many and later."""
    return (len(f"{seconds:g}".partition(".")[2]), -seconds) < (len(f"{than:g}".partition(".")[2]), -than)


def _one_event(found: Trial, place: int, event: Event) -> Generator[Variant, Trial | None, Trial | None]:
    events = found.variant.plan.events
    plan = Plan(events=(*events[:place], event, *events[place + 1 :]))
    return (yield dataclasses.replace(found.variant, plan=plan))
