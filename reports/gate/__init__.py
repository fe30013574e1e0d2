"""The gate: a campaign against limits, and against an earlier campaign. It says kept, missed, undecided or violated, never a
bare number that happened to be small enough.

A limit on a percentile is kept if its upper confidence bound is below, and missed if its lower bound is above; in between,
and with too few observations, it is undecided. A regression needs evidence and an effect that matters (compare.py).
"""

from duress.reports.gate.limits import Limits, LimitsError, read_limits
from duress.reports.gate.outcome import GATE_FILE, Finding, Gate, load_gate, save_gate
from duress.reports.gate.verdict import NotComparable, judge

__all__ = [
    "GATE_FILE",
    "Finding",
    "Gate",
    "Limits",
    "LimitsError",
    "NotComparable",
    "judge",
    "load_gate",
    "read_limits",
    "save_gate",
]
