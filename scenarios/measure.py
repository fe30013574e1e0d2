"""Figures of one run, counted from its evidence."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import Evidence
from duress.scenarios.intervals import intersect
from duress.scenarios.invariants.liveness import runnable
from duress.scenarios.reading import Reading

STALL: Final = 0.1  # seconds; a shorter window without a checkpoint is no stall


def bodies_rerun(evidence: Evidence) -> int:
    """Bodies that started again under a later epoch: their worker had died, or was fenced."""
    epochs: dict[tuple[str, str], set[int]] = defaultdict(set)
    for entry in evidence.history:
        if entry.name == observer.STARTED:
            epochs[entry.facts["workflow"], entry.facts["step"]].add(entry.facts["epoch"])
    return sum(len(seen) - 1 for seen in epochs.values())


def attempts_without_checkpoint(evidence: Evidence) -> int:
    """Requests that reached the receiver and whose claim never wrote the step's checkpoint."""
    written = {(row.workflow, row.step, row.epoch) for row in evidence.final.checkpoints}
    return sum(
        (entry.facts["workflow"], entry.facts["step"], entry.facts["epoch"]) not in written
        for entry in evidence.history
        if entry.name == history.RECEIVED
    )


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """COMMITs whose connection went before the answer came, and how they were resolved."""

    commits: int = 0
    present: int = 0  # it had happened
    absent: int = 0  # it had not
    open: int = 0  # the worker died before it knew


def ambiguous_commits(evidence: Evidence) -> Ambiguity:
    """All ambiguous COMMITs of a run."""
    commits = sum(entry.name == observer.AMBIGUOUS for entry in evidence.history)
    answers = [bool(entry.facts["present"]) for entry in evidence.history if entry.name == observer.RESOLVED]
    return Ambiguity(commits, sum(answers), len(answers) - sum(answers), commits - len(answers))


def progress(evidence: Evidence) -> tuple[float, ...]:
    """When each checkpoint became durable, in order."""
    return tuple(sorted(evidence.when(row.at) for row in evidence.final.checkpoints))


def latencies(evidence: Evidence) -> tuple[tuple[float, float], ...]:
    """(When a workflow ended, seconds since somebody asked for its start), by the end; without those that never ended."""
    started: dict[str, float] = {}
    ended: dict[str, float] = {}
    for entry in evidence.history:
        if entry.name == observer.STARTING:
            started.setdefault(entry.facts["workflow"], entry.at)
        elif entry.name == observer.FINISHED:
            ended.setdefault(entry.facts["workflow"], entry.at)
    both = [(end, end - started[workflow]) for workflow, end in ended.items() if workflow in started]
    return tuple(sorted((round(end, 4), round(seconds, 4)) for end, seconds in both))


def stalls(evidence: Evidence) -> tuple[float, ...]:
    """Windows longer than `STALL` in which work waited and no checkpoint became durable: their lengths, in order."""
    reading = Reading(evidence)
    moments = [at for at in progress(evidence) if reading.began < at < reading.end]
    gaps = [gap for gap in pairwise([reading.began, *moments, reading.end]) if gap[1] - gap[0] > STALL]
    return tuple(round(end - start, 4) for start, end in intersect(gaps, runnable(reading)) if end - start > STALL)


def sometimes(evidence: Evidence) -> tuple[str, ...]:
    """What the code said that it came to in this run."""
    return tuple(sorted({entry.facts["what"] for entry in evidence.history if entry.name == history.SOMETIMES}))
