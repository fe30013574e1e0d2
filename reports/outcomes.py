"""What became of the planned faults, kind by kind: the heat map of the page, as figures.

Every planned fault is in exactly one column, so that a row adds up to what was planned.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from duress.reports.summary import RANKED_BY
from duress.scenarios.result import FaultRecord, Run

_BACK_WITHIN: Final = ((0.1, "back in 0.1 s"), (1.0, "back in 1 s"), (10.0, "back in 10 s"), (math.inf, "back later"))
NEVER_FIRED: Final = "never fired"
NOT_SEEN: Final = "not seen to recover"
IDLE: Final = "nothing in flight"
COLUMNS: Final = (NEVER_FIRED, IDLE, *(name for _, name in _BACK_WITHIN), NOT_SEEN)
SHADES: Final = 5  # steps of the scale, from the least that is there to all of a row


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault: how many went into each column, and how many stood in runs that violated an invariant."""

    kind: str
    counts: tuple[int, ...]
    in_failed_runs: int

    def shade(self, place: int) -> int:
        """0 for none, to SHADES for all of the row."""
        return math.ceil(SHADES * self.counts[place] / max(sum(self.counts), 1))


def rows(runs: Sequence[Run]) -> list[Row]:
    """One for each kind that was planned, by name."""
    found: dict[str, Counter[str]] = {}
    failed: Counter[str] = Counter()
    for run in runs:
        for fault in run.faults:
            found.setdefault(fault.kind, Counter())[_outcome(fault)] += 1
            failed[fault.kind] += run.verdict == "fail" and fault.fired
    return [Row(kind, tuple(counts[name] for name in COLUMNS), failed[kind]) for kind, counts in sorted(found.items())]


def _outcome(fault: FaultRecord) -> str:
    if not fault.fired:
        return NEVER_FIRED
    back: float | None = getattr(fault.recovery, RANKED_BY)
    if back is None:
        return NOT_SEEN if fault.recovery.affected else IDLE
    return next(name for limit, name in _BACK_WITHIN if back <= limit)
