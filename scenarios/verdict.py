"""Pass, fail or inconclusive: never a silent pass."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from duress.scenarios.observed import Observed
from duress.scenarios.result import FaultRecord, Run, Verdict

TOLERATED: Final = 0.02  # the share of inconclusive runs above which a campaign is inconclusive


def doubts_of(observed: Observed) -> tuple[str, ...]:
    """Why a run without violations does not count as passed."""
    exercised = any(row.status != "open" for row in observed.evidence.final.workflows)
    nothing = () if exercised else ("nothing was exercised: no workflow ended",)
    return (*observed.doubts, *nothing)


def of_run(violated: bool, doubts: Sequence[str]) -> Verdict:
    """The verdict on one run."""
    if violated:
        return "fail"
    return "inconclusive" if doubts else "pass"


def of_campaign(runs: Sequence[Run], never: Sequence[str] = ()) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on all runs, and the reasons unless it is a pass. `never`: what should have happened in some of them."""
    failed = [run for run in runs if run.verdict == "fail"]
    if failed:
        broken = sorted({violation.invariant for run in failed for violation in run.violations})
        return "fail", (f"{len(failed)} of {len(runs)} runs violated {', '.join(broken)}",)
    reasons = [
        f"{kind} was planned {planned} {'time' if planned == 1 else 'times'} and never fired"
        for kind, (planned, fired) in fault_counts(runs).items()
        if not fired
    ]
    doubtful = [run for run in runs if run.verdict == "inconclusive"]
    if len(doubtful) > TOLERATED * len(runs):
        share = f"{len(doubtful)} of {len(runs)} runs are inconclusive (more than {TOLERATED:.0%})"
        reasons.append(f"{share}; seed {doubtful[0].seed}: {'; '.join(doubtful[0].reasons)}")
    reasons += never
    if not runs:
        reasons.append("nothing was run")
    return ("inconclusive", tuple(reasons)) if reasons else ("pass", ())


def fault_counts(runs: Sequence[Run]) -> dict[str, tuple[int, int]]:
    """Kind → how many were planned, how many fired; sorted by kind."""
    records: list[FaultRecord] = [record for run in runs for record in run.faults]
    planned, fired = (
        Counter(record.kind for record in records),
        Counter(record.kind for record in records if record.fired),
    )
    return {kind: (planned[kind], fired[kind]) for kind in sorted(planned)}
