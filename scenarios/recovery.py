"""How long recovery took, per fault and phase.

inject → noticed → reclaimed → first new checkpoint → back to a steady rate → drained. All phases count from the
injection (for a worker's fault: from the moment just before the signal was sent), so that the observer's own delay
makes a figure larger, never smaller. None means: not seen, because it did not happen, or because nobody could tell.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import sqrt
from typing import Final

from duress.engine import observer
from duress.scenarios.history import CheckpointRow, Evidence
from duress.scenarios.reading import ENDING, OUTAGES, Holding, Reading, Seen
from duress.scenarios.result import Recovery

BEFORE: Final = 1.0  # seconds before a fault from which the usual rate is taken, at most
LEAST_BEFORE: Final = 0.3  # seconds; with less there is no usual rate
WINDOW: Final = 0.25  # seconds over which a rate is judged
LEAST_EXPECTED: Final = 4.0  # checkpoints in a window; with fewer, noise cannot be told from a stall

# Whoever says one of these has noticed that something went wrong.
NOTICES = frozenset({observer.TOOK_OVER, observer.AMBIGUOUS, observer.FENCED, observer.WORKER_LOST, observer.RELEASED})


def recoveries(evidence: Evidence, planned: int | None = None) -> tuple[Recovery, ...]:
    """One for each planned fault, in the plan's order; an empty one for a fault that was not injected.

    `planned`: how many the plan has; as many as the history knows of, if not given.
    """
    reading = Reading(evidence)
    moments = checkpoint_times(reading)
    count = max((fault.index + 1 for fault in reading.faults), default=0) if planned is None else planned
    by_index = {fault.index: fault for fault in reading.faults if fault.effect is not None}
    return tuple(
        recovery(reading, moments, by_index[index]) if index in by_index else Recovery() for index in range(count)
    )


def recovery(reading: Reading, moments: Sequence[float], fault: Seen) -> Recovery:
    """The phases of one fault that took effect. `moments`: when each checkpoint became durable, in order."""
    affected = affected_by(reading, fault)
    reclaimed = _first_claim(reading, affected, fault)
    return Recovery(
        noticed=_after(fault, _noticed(reading, fault, reclaimed)),
        reclaimed=_after(fault, reclaimed),
        first=_after(fault, _first_checkpoint(reading, affected, fault)),
        steady=_after(fault, steady_from(moments, fault.asked, usual_rate(reading, moments, fault), reading.end)),
        drained=_after(fault, _drained(reading, affected)),
        affected=len(affected),
    )


def affected_by(reading: Reading, fault: Seen) -> list[Holding]:
    """What the victim held when the fault was injected; everything that anybody held, if it struck the server."""
    return reading.held_at(fault.asked, None if fault.kind in OUTAGES else fault.worker)


def checkpoint_times(reading: Reading) -> tuple[float, ...]:
    """When each checkpoint became durable, in order."""
    return tuple(sorted(reading.at(row.at) for row in reading.evidence.final.checkpoints))


def _noticed(reading: Reading, fault: Seen, reclaimed: float | None) -> float | None:
    """When somebody first acted on it: by a takeover, an unanswered COMMIT, a handing over, at the latest a claim."""
    victims = {
        one.number
        for one in reading.incarnations.values()
        if one.joined <= fault.asked < one.gone and (fault.kind in OUTAGES or one.worker == fault.worker)
    }
    for entry in reading.evidence.history:
        if entry.at < fault.asked or entry.name not in NOTICES:
            continue
        of_victim = entry.facts.get("victim", entry.facts.get("incarnation")) in victims
        if of_victim and (reclaimed is None or entry.at < reclaimed):
            return entry.at
    return reclaimed


def _first_claim(reading: Reading, affected: Sequence[Holding], fault: Seen) -> float | None:
    """When the epoch of an affected workflow was raised."""
    claims = [
        reading.at(other.claimed_at)
        for held in affected
        for other in reading.holdings[held.workflow]
        if other.epoch > held.epoch and held.how != "suspended"
    ]
    return min((at for at in claims if at >= fault.asked), default=None)


def _first_checkpoint(reading: Reading, affected: Sequence[Holding], fault: Seen) -> float | None:
    """When an affected workflow first got a new checkpoint.

    Where the fault takes it from its owner, that is one under a new claim; else one after the fault was in effect.
    """
    new_claim = fault.kind in ENDING or fault.kind == "pause-worker"
    since = fault.asked if new_claim or fault.effect is None else fault.effect
    times = [
        reading.at(row.at)
        for held in affected
        for row in _rows(reading, held.workflow)
        if row.epoch > held.epoch or not new_claim
    ]
    return min((at for at in times if at >= since), default=None)


def _drained(reading: Reading, affected: Sequence[Holding]) -> float | None:
    """When the last affected workflow ended, as far as workers lived to tell."""
    if any(row.status == "open" for held in affected for row in reading.workflows.get(held.workflow, ())):
        return None
    return max(
        (reading.finished[held.workflow] for held in affected if held.workflow in reading.finished), default=None
    )


def usual_rate(reading: Reading, moments: Sequence[float], fault: Seen) -> float | None:
    """Checkpoints per second before the fault, since the last disturbance; None if too short a time passed."""
    others = [other for other in reading.faults if other.asked < fault.asked]
    disturbed = [other.effect or other.asked if other.kind in ENDING else other.over for other in others]
    since = max(reading.began, fault.asked - BEFORE, *(min(end, fault.asked) for end in disturbed))
    span = fault.asked - since
    if span < LEAST_BEFORE:
        return None
    return (bisect_left(moments, fault.asked) - bisect_left(moments, since)) / span


def steady_from(moments: Sequence[float], since: float, rate: float | None, until: float) -> float | None:
    """From when on the rate is back in its band: the first window, from a checkpoint on, whose count is not below
    what was usual by more than two standard deviations of a Poisson count.

    None without a usual rate, with one too low to be told from noise, or if that was not seen before `until`.
    """
    if rate is None or rate * WINDOW < LEAST_EXPECTED:
        return None
    wanted = rate * WINDOW - 2 * sqrt(rate * WINDOW)
    first = bisect_left(moments, since)
    for place in range(first, len(moments)):
        if moments[place] + WINDOW > until:
            return None
        # Without a stall the first window is full at once; after one, windows begin with the first checkpoint after it.
        if bisect_left(moments, moments[place] + WINDOW) - place >= max(wanted, 1.0):
            return moments[place]
    return None


def _rows(reading: Reading, workflow: str) -> list[CheckpointRow]:
    return [row for rows in reading.checkpoints.get(workflow, {}).values() for row in rows]


def _after(fault: Seen, moment: float | None) -> float | None:
    return None if moment is None else max(0.0, moment - fault.asked)
