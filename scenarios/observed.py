"""What a world hands over after one run: all that is needed to judge it, and nothing that is specific to the world."""

from dataclasses import dataclass

from duress.scenarios.history import Evidence
from duress.scenarios.result import FaultRecord


@dataclass(frozen=True, slots=True)
class Observed:
    """One run, not judged yet. `seconds` is the whole run's wall time, start and end of the processes included."""

    evidence: Evidence
    faults: tuple[FaultRecord, ...]  # in the plan's order
    seconds: float
    doubts: tuple[str, ...]  # why this run may prove little, beside planned faults that did not fire
