"""What a campaign says, worked out once, so that the page, the plots, JUnit and the terminal cannot disagree.

A recovery that was not seen, or could not be told, is counted as longer than any that was seen (infinite): figures err
on the slow side, and nothing is dropped. Only where nothing was in flight and nothing followed is there nothing to
recover; those are counted apart.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from duress.reports import statistics
from duress.scenarios.conclusion import absent_shards
from duress.scenarios.result import Campaign, FaultRecord, Run, Violation

PHASES = {  # in the order in which they come; the words are the explanation a reader gets
    "noticed": "another worker decides, or the client sees an error",
    "reclaimed": "a new owner holds the work under a raised epoch",
    "first": "first new checkpoint of an affected workflow",
    "steady": "throughput is back in its band",
    "drained": "the backlog is worked off",
}
RANKED_BY = "first"  # the phase by which fault kinds are ranked: work goes on again


@dataclass(frozen=True, slots=True)
class Sample:
    """The durations of one phase after the fired faults of one kind; infinite = not seen."""

    phase: str
    values: tuple[float, ...]  # ascending, with the infinite ones last
    idle: int  # faults that hit nothing in flight and were followed by nothing; not in `values`

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def seen(self) -> tuple[float, ...]:
        return tuple(value for value in self.values if math.isfinite(value))

    @property
    def not_seen(self) -> int:
        return self.n - len(self.seen)

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def interval(self) -> statistics.Interval | None:
        return statistics.median_interval(self.values)

    def upper_bound(self, quantile: float) -> float | None:
        return statistics.upper_bound(self.values, quantile)


@dataclass(frozen=True, slots=True)
class FaultKind:
    """All planned faults of one kind."""

    kind: str
    planned: int
    fired: int
    phases: dict[str, Sample]

    @property
    def first(self) -> Sample:
        return self.phases[RANKED_BY]


@dataclass(frozen=True, slots=True)
class Broken:
    """One broken invariant with all that broke it, by seed."""

    invariant: str
    title: str
    violations: tuple[Violation, ...]
    seeds: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all runs; `stalls` ascending, in seconds."""

    workflows: int
    checkpoints: int
    bodies_rerun: int
    attempts_without_checkpoint: int
    ambiguous_commits: int
    lost_in_transaction: int
    acknowledged_lost: int
    stalls: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The campaign, counted."""

    campaign: Campaign
    kinds: tuple[FaultKind, ...]  # by name
    broken: tuple[Broken, ...]  # the one that most runs broke first
    totals: Totals
    passed: int
    failed: int
    inconclusive: int
    failure_rate: statistics.Interval | None  # of the runs that judged anything

    @property
    def planned(self) -> int:
        return sum(kind.planned for kind in self.kinds)

    @property
    def fired(self) -> int:
        return sum(kind.fired for kind in self.kinds)

    @property
    def worst(self) -> FaultKind | None:
        """The kind with the slowest median to the first new checkpoint, among those with an interval; else among
        all."""
        known = [kind for kind in self.kinds if kind.first.interval is not None]
        known = known or [kind for kind in self.kinds if kind.first.median is not None]
        return max(known, key=lambda kind: kind.first.median or 0.0, default=None)

    @property
    def reproduce(self) -> str | None:
        """The line to paste for the first violation, divergence, or run that did not pass."""
        for broken in self.broken:
            return broken.violations[0].reproduce
        for divergence in self.campaign.divergences:
            return divergence.reproduce
        if again := [one for one in self.campaign.corpus if one.state == "fails"]:
            return again[0].reproduce
        return next((run.reproduce for run in self.campaign.runs if run.verdict != "pass" and run.reproduce), None)


def visible_phases(kinds: Sequence[FaultKind]) -> dict[str, str]:
    """Those of `PHASES` that were seen after any fault; all if none was."""
    seen = {phase: told for phase, told in PHASES.items() if any(kind.phases[phase].seen for kind in kinds)}
    return seen or PHASES


def summarise(campaign: Campaign) -> Summary:
    """Count `campaign`; the order of its runs does not matter."""
    runs = sorted(campaign.runs, key=lambda run: run.seed)
    verdicts = [run.verdict for run in runs]
    passed, failed = verdicts.count("pass"), verdicts.count("fail")
    return Summary(
        campaign=campaign,
        kinds=_kinds([fault for run in runs for fault in run.faults]),
        broken=_broken(runs),
        totals=_totals(runs),
        passed=passed,
        failed=failed,
        inconclusive=verdicts.count("inconclusive"),
        failure_rate=statistics.rate_interval(failed, passed + failed),
    )


def determinism(campaign: Campaign) -> str | None:
    """How much was done to see that a simulated run is the same each time; None where it need not be, or for one run."""
    diverged = len(campaign.divergences)
    if campaign.world != "sim" or (len(campaign.runs) == 1 and not campaign.run_twice):
        return None
    if not campaign.run_twice:
        return "no run was made twice, so nothing says that they can be repeated"
    verdict = "all were the same to the byte" if not diverged else f"{diverged} of them diverged"
    return f"{campaign.run_twice} of {len(campaign.runs) + diverged} runs were made twice: {verdict}"


def whose_clock(campaign: Campaign) -> str | None:
    """What durations mean where no real time passed; None where it did."""
    if campaign.world != "sim":
        return None
    return (
        "Times are virtual: the engine's waits and the latencies that were drawn, with no time for computing, the same on "
        "every machine. They compare builds and faults; how long yours takes is measured with --world procs"
    )


def gaps(campaign: Campaign, summary: Summary) -> tuple[str, ...]:
    """What was not covered: as the campaign says, and what its numbers show."""
    found = list(campaign.not_covered)
    for kind in summary.kinds:
        if kind.planned and not kind.fired:
            times = "once" if kind.planned == 1 else f"{kind.planned} times"
            found.append(f"{kind.kind}: planned {times}, never fired")
        elif kind.fired < kind.planned:
            found.append(f"{kind.kind}: {kind.planned - kind.fired} of {kind.planned} planned never fired")
    if not summary.planned:
        found.append("no fault was planned: this says nothing about failures")
    if absent := absent_shards(campaign.shards):
        found.append(f"only a part of the seeds: without shard {', '.join(absent)}")
    if summary.inconclusive:
        found.append(f"{summary.inconclusive} of {len(campaign.runs)} runs were inconclusive and prove nothing")
    return tuple(found)


def _kinds(faults: Sequence[FaultRecord]) -> tuple[FaultKind, ...]:
    names = sorted({fault.kind for fault in faults})
    return tuple(_kind(name, [fault for fault in faults if fault.kind == name]) for name in names)


def _kind(name: str, faults: Sequence[FaultRecord]) -> FaultKind:
    fired = [fault for fault in faults if fault.fired]
    return FaultKind(
        kind=name,
        planned=len(faults),
        fired=len(fired),
        phases={phase: _sample(phase, fired) for phase in PHASES},
    )


def _sample(phase: str, fired: Iterable[FaultRecord]) -> Sample:
    values, idle = [], 0
    for fault in fired:
        value: float | None = getattr(fault.recovery, phase)
        if value is None and fault.recovery.affected == 0:
            idle += 1
        else:
            values.append(math.inf if value is None else value)
    return Sample(phase, tuple(sorted(values)), idle)


def _broken(runs: Sequence[Run]) -> tuple[Broken, ...]:
    by_invariant: dict[str, list[Violation]] = {}
    for run in runs:
        for violation in run.violations:
            by_invariant.setdefault(violation.invariant, []).append(violation)
    broken = [
        Broken(invariant, found[0].title, tuple(found), len({violation.seed for violation in found}))
        for invariant, found in by_invariant.items()
    ]
    return tuple(sorted(broken, key=lambda found: (-found.seeds, found.invariant)))


def _totals(runs: Sequence[Run]) -> Totals:
    return Totals(
        workflows=sum(run.workflows for run in runs),
        checkpoints=sum(run.checkpoints for run in runs),
        bodies_rerun=sum(run.bodies_rerun for run in runs),
        attempts_without_checkpoint=sum(run.attempts_without_checkpoint for run in runs),
        ambiguous_commits=sum(run.ambiguous_commits for run in runs),
        lost_in_transaction=sum(run.lost_in_transaction for run in runs),
        acknowledged_lost=sum(run.acknowledged_lost for run in runs),
        stalls=tuple(sorted(stall for run in runs for stall in run.stalls)),
    )
