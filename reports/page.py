"""The page: one HTML file that needs nothing else, not even scripts.

It leads with the verdict, then what was broken and the line to paste, then what was run and what was not covered. All
text from the campaign is escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from duress.reports import outcomes, plotting, shrunk, statistics, wording
from duress.reports.gate.outcome import Gate
from duress.reports.gate.terminal import MARKS as GATE_MARKS
from duress.reports.gate.terminal import headline as gate_headline
from duress.reports.gate.terminal import seen as gate_seen
from duress.reports.gate.terminal import worst_first
from duress.reports.plot_run import fired
from duress.reports.summary import PHASES, Sample, Summary, determinism, gaps, visible_phases, whose_clock
from duress.scenarios.result import Run

TEMPLATES = Path(__file__).parent / "templates"
MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
_SURE = f"95{wording.NBSP}%"
_RULE_OF_THREE = 20  # runs from which 3/n is within a tenth of the exact bound
_LISTED = 50  # violations per invariant, beyond which the page refers to result.json


@dataclass(frozen=True, slots=True)
class Cell:
    """One phase of one fault kind in the table: the figure, and what it rests on."""

    figure: str
    claim: str  # what the range is
    range: str
    footing: str

    @property
    def basis(self) -> str:
        """All but the figure, in one phrase."""
        return f"{self.claim} {self.range}, {self.footing}" if self.range else self.footing


@dataclass(frozen=True, slots=True)
class RunPicture:
    """A chosen run and its plot."""

    run: Run
    plot: plotting.Plot


def page(
    summary: Summary, recovery: Sequence[plotting.Plot], pictures: Sequence[RunPicture], gate: Gate | None = None
) -> str:
    """The HTML text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    environment.filters |= {
        "duration": wording.duration,
        "count": wording.count,
        "percent": wording.percent,
        "moment": wording.moment,
        "sizes": shrunk.sizes,
        "told": lambda small: "\n".join(shrunk.told(small)),
    }
    return environment.get_template("report.html").render(
        summary=summary,
        campaign=summary.campaign,
        runs=sorted(summary.campaign.runs, key=lambda run: run.seed),
        mark=MARKS[summary.campaign.verdict],
        marks=MARKS,
        headline=headline(summary),
        slowest=slowest(summary),
        rate=rate(summary),
        repeated=determinism(summary.campaign),
        clock=whose_clock(summary.campaign),
        gaps=gaps(summary.campaign, summary),
        phases=visible_phases(summary.kinds),
        never_seen=[phase for phase in PHASES if phase not in visible_phases(summary.kinds)],
        cell=cell,
        tail=tail,
        listed=_LISTED,
        recovery=recovery,
        pictures=pictures,
        gate=gate,
        gate_headline=gate_headline(gate) if gate is not None else "",
        gate_seen=gate_seen,
        gate_marks=GATE_MARKS,
        findings=worst_first(gate) if gate is not None else [],
        heat=outcomes.rows(summary.campaign.runs),
        columns=outcomes.COLUMNS,
        ambiguous=ambiguous(summary.campaign.runs),
        histories={run.seed: run.history for run in summary.campaign.runs if run.history},
        fired=fired,
        smallest={
            "median": statistics.smallest_n_median(),
            "p95": statistics.smallest_n(0.95),
            "p99": statistics.smallest_n(0.99),
        },
        svg=Markup,  # only for drawings, whose text matplotlib has escaped
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )


def headline(summary: Summary) -> str:
    """The verdict in one sentence."""
    campaign = summary.campaign
    runs = wording.count(len(campaign.runs), "run")
    if summary.broken:
        names = " and ".join(f"{broken.invariant} {broken.title}" for broken in summary.broken[:3])
        more = f" and {len(summary.broken) - 3} more" if len(summary.broken) > 3 else ""
        return f"{names}{more} broken in {summary.failed} of {runs}"
    if campaign.verdict == "pass":
        kept = f"all {len(campaign.invariants)} invariants" if campaign.invariants else "every invariant"
        return f"{kept} held in {runs} under {wording.count(summary.fired, 'fault')}"
    return campaign.reasons[0] if campaign.reasons else f"{runs}, and no violation was recorded"


def slowest(summary: Summary) -> tuple[str, str, str, bool] | None:
    """The slowest fault kind, its p50, what that rests on, and whether all kinds that fired were compared.

    Kinds with too few recoveries for an interval are left out if any has enough. None if nothing had to recover.
    """
    worst = summary.worst
    if worst is None:
        return None
    shown = cell(worst.first)
    compared = all(
        (kind.first.interval is None) == (worst.first.interval is None) for kind in summary.kinds if kind.fired
    )
    return worst.kind, shown.figure, shown.basis, compared


def rate(summary: Summary) -> str:
    """What the number of failed runs says about the rate of failing."""
    judged, interval = summary.passed + summary.failed, summary.failure_rate
    if interval is None:
        return "no run was judged, so nothing is known about the rate of failing"
    if summary.failed == 0:
        bound = wording.percent(interval.high)
        three = " (about 3/n)" if judged >= _RULE_OF_THREE else ""
        return f"0 of {judged} judged runs failed: with {_SURE} confidence fewer than {bound} do{three}"
    share = wording.percent(summary.failed / judged)
    ends = f"{wording.percent(interval.low)} – {wording.percent(interval.high)}"
    return f"{summary.failed} of {judged} judged runs failed: {share} ({_SURE}: {ends})"


def cell(sample: Sample) -> Cell:
    """Median, interval and n of one phase, or why there is none."""
    footing = f"n{wording.NBSP}={wording.NBSP}{sample.n}"
    if sample.not_seen:
        footing += f", {sample.not_seen} not seen"
    if sample.idle:
        footing += f", {sample.idle} with nothing in flight"
    if not sample.seen:
        return Cell("not seen" if sample.n else "–", "", "", footing)
    if sample.interval is None:
        return Cell("n too small", "seen", wording.duration_range(sample.seen[0], sample.seen[-1]), footing)
    interval = wording.duration_range(sample.interval.low, sample.interval.high)
    return Cell(wording.duration(sample.median or 0.0), f"{_SURE}:", interval, footing)


def tail(sample: Sample, quantile: float) -> str:
    """The upper bound of a high quantile as "≤ 41 ms", or how many more observations it would take."""
    bound = sample.upper_bound(quantile)
    if bound is None:
        return f"n too small ({sample.n} of {statistics.smallest_n(quantile)})"
    return f"≤ {wording.duration(bound)}" if bound != float("inf") else "not bounded: not seen too often"


def ambiguous(runs: Sequence[Run]) -> str:
    """How the COMMITs whose answer was lost turned out."""
    there, absent = sum(run.ambiguous_present for run in runs), sum(run.ambiguous_absent for run in runs)
    left = sum(run.ambiguous_commits for run in runs) - there - absent
    last = f", {left} {'was its worker’s' if left == 1 else 'were their workers’'} last act" if left else ""
    return f"by reading the checkpoint: {there} had happened, {absent} had not{last}"


def _clean(value: object) -> object:
    return wording.printable(value) if type(value) is str else value
