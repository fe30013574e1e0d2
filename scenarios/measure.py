"""Figures of one run, counted from its evidence."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import Evidence

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


def ambiguous_commits(evidence: Evidence) -> int:
    """COMMITs whose connection went before the answer came."""
    return sum(entry.name == observer.AMBIGUOUS for entry in evidence.history)


def progress(evidence: Evidence) -> tuple[float, ...]:
    """When each checkpoint became durable, in order."""
    return tuple(sorted(row.at - evidence.clock_offset for row in evidence.final.checkpoints))


def stalls(moments: Sequence[float]) -> tuple[float, ...]:
    """Windows without a checkpoint, from the workload's beginning to the last one, longer than `STALL`."""
    gaps = (after - before for before, after in zip([0.0, *moments], moments, strict=False))
    return tuple(round(gap, 4) for gap in gaps if gap > STALL)
