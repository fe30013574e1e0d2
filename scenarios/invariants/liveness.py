"""L1: something advances while anybody is able to."""

import math
from collections.abc import Iterator
from itertools import pairwise

from duress.engine import observer
from duress.scenarios.intervals import Interval, covered, intersect, subtract
from duress.scenarios.invariants.invariant import Invariant, Sighting, later, seconds
from duress.scenarios.reading import ENDING, OUTAGES, Reading

DEADLOCK_TIMEOUT = 1.0  # seconds; PostgreSQL's default
ADVANCES = frozenset({observer.CHECKPOINTED, observer.FINISHED})


def bound(lease: float) -> float:
    """Seconds without progress that the worst of the catalogue explains.

    All work is held by a worker that fell silent just after a heartbeat (one lease), its successor is slow to come back
    itself (another), and reconnecting, polling and running a step take their time.
    """
    return 2 * lease + 2.0


def explained(reading: Reading, span: Interval) -> float:
    """Seconds without progress that `span` may hold: each deadlock that was made in it keeps locks for which others wait,
    and where those wait for each other too, PostgreSQL looks only after DEADLOCK_TIMEOUT.
    """
    start, end = span
    deadlocks = sum(fault.kind == "deadlock" and fault.asked < end and fault.over > start for fault in reading.faults)
    return bound(reading.evidence.lease) + deadlocks * DEADLOCK_TIMEOUT


def progress(reading: Reading) -> Iterator[Sighting]:
    longest = bound(reading.evidence.lease)
    moments = [entry.at for entries in reading.entries.values() for entry in entries if entry.name in ADVANCES]
    edges = [reading.began, *sorted(at for at in moments if reading.began <= at <= reading.end), reading.end]
    gaps = [(one, two) for one, two in pairwise(edges) if two - one > longest]
    if not gaps:
        return
    work = runnable(reading)
    for gap in gaps:
        idle = intersect(intersect([gap], work), server_up(reading))
        for worker, able in healthy(reading).items():
            stuck = max(intersect(idle, able), key=lambda span: span[1] - span[0], default=(0.0, 0.0))
            if stuck[1] - stuck[0] > (most := explained(reading, stuck)):
                waiting = [id_ for id_ in reading.accepted if _waits(reading, id_, stuck[0])]
                yield Sighting(
                    waiting[0] if waiting else None,
                    f"Nothing advanced for {later(stuck[1] - stuck[0])} from {seconds(stuck[0])[3:]} on, though worker"
                    f" {worker} and the server were healthy and {len(waiting)} accepted workflows"
                    f" waited{f' ({waiting[0]} among them)' if waiting else ''}; at most {most:g} s are explained.",
                )
                break


def runnable(reading: Reading) -> list[Interval]:
    """When some accepted workflow had no outcome and was not asleep."""
    spans: list[Interval] = []
    for id_, accepted in reading.accepted.items():
        open_ = [(accepted, reading.finished.get(id_, math.inf))]
        spans += subtract(open_, _asleep(reading, id_))
    return covered(spans)


def _asleep(reading: Reading, id_: str) -> list[Interval]:
    steps = reading.checkpoints[id_].values() if id_ in reading.checkpoints else ()
    rows = (row for same in steps for row in same if row.kind == "sleep")
    return covered([(reading.at(row.at), reading.at(float(row.value))) for row in rows])


def _waits(reading: Reading, id_: str, moment: float) -> bool:
    open_ = reading.accepted[id_] <= moment < reading.finished.get(id_, math.inf)
    return open_ and not any(start <= moment < end for start, end in _asleep(reading, id_))


def healthy(reading: Reading) -> dict[int, list[Interval]]:
    """Worker → when it was a member and nothing was done to it."""
    lives: dict[int, list[Interval]] = {}
    for incarnation in reading.incarnations.values():
        lives.setdefault(incarnation.worker, []).append((incarnation.joined, incarnation.process.ended))
    for worker, spans in lives.items():
        struck = [
            (fault.asked, fault.over if fault.kind not in ENDING else fault.effect or fault.asked)
            for fault in reading.faults
            if fault.worker == worker
        ]
        lives[worker] = subtract(covered(spans), covered(struck))
    return lives


def server_up(reading: Reading) -> list[Interval]:
    """When no outage was in effect."""
    outages = [(fault.asked, fault.over) for fault in reading.faults if fault.kind in OUTAGES]
    return subtract([(-math.inf, math.inf)], covered(outages))


PROGRESS = Invariant("L1", "progress", "While any worker and the server are healthy, something advances.", progress)
