"""What is tried to make a failing run smaller, in the order of what is gained by it, until nothing more can be left out.

Each pass proposes variants and is sent the trial if that still breaks the promise, else None.
"""

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any, Final

import msgspec

from duress.faults.plan import AtTime, Event, Plan
from duress.scenarios.shrinking.variant import Trial, Variant
from duress.simulator import shrinking

Pass = Generator[Variant, Trial | None, Trial]

ROUND: Final = (2, 3)  # digits of a second that a time may be rounded to
LATER: Final = (4.0, 2.0, 1.5)  # times as late


def smaller(found: Trial) -> Pass:
    """The smallest that is found. Of what it has left, no single fault, no piece of the work, and no worker can go."""
    while True:
        before = _weight(found)
        for reduce in (_plain, _faults, _wanted, _pieces, _workers, _sizes, _choices, _aimed, _times):
            found = yield from reduce(found)
        if _weight(found) == before:
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


def _changed(found: Trial, **changes: Any) -> Generator[Variant, Trial | None, Trial | None]:
    """The run with these changes: in the order that it has, in asyncio's, or in that which its seed now draws.

    After a change, recorded decisions answer other questions. What broke the promise may need only some of them.
    """
    for choices in (found.variant.choices, {}, None):
        trial = yield dataclasses.replace(found.variant, choices=choices, **changes)
        if trial is not None:
            return trial
    return None


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
    """Work that ends with what is wanted, whether or not faults are still to come."""
    settings = found.variant.settings
    if settings.until == "wanted" and settings.only is not None:
        return found
    only = found.pieces or None
    return (yield from _changed(found, settings=dataclasses.replace(settings, until="wanted", only=only))) or found


def _pieces(found: Trial) -> Pass:
    """Less work: half of the pieces, a quarter, …, and without each."""
    only = found.variant.settings.only
    if only is None:
        return found
    chunk = max(1, len(only) // 2)
    while True:
        start = 0
        while start < len(only) > 1:
            rest = only[:start] + only[start + chunk :]
            settings = dataclasses.replace(found.variant.settings, only=rest)
            trial = (yield from _changed(found, settings=settings)) if rest else None
            if trial is None:
                start += chunk
            else:
                found, only = trial, rest
        if chunk == 1:
            return found
        chunk //= 2


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


def _choices(found: Trial) -> Pass:
    """Asyncio's order and the least latency, wherever they do."""
    assert found.variant.choices is not None
    search = shrinking.simpler(found.variant.choices)
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
