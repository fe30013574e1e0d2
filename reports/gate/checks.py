"""Each limit against a campaign."""

import math
from collections.abc import Iterator, Mapping

from duress.reports import statistics
from duress.reports.gate.limits import EVERY_KIND, QUANTILES, Limits
from duress.reports.gate.outcome import Finding, State
from duress.reports.summary import Sample, Summary
from duress.reports.wording import count, duration, duration_range, plain


def findings(summary: Summary, limits: Limits) -> Iterator[Finding]:
    """Of all limits but the baseline's, in the order of the file."""
    yield from _harness(summary)
    yield from _diverged(summary)
    yield from _safety(summary)
    yield from _exercised(summary, limits)
    yield from _recovery(summary, limits.recovery)
    yield from _progress(summary, limits)
    yield from _waste(summary, limits)


def _harness(summary: Summary) -> Iterator[Finding]:
    for failure in summary.campaign.failures:
        yield Finding(
            limit="harness",
            sort="safety",
            state="harness failed",
            wanted="no failure of the harness itself",
            seen=f"seed {failure.seed}: {failure.message}",
            advice="its traceback is in the output of duress run; what it found before counts",
        )


def _diverged(summary: Summary) -> Iterator[Finding]:
    diverged = summary.campaign.divergences
    if diverged:
        yield Finding(
            limit="determinism",
            sort="safety",
            state="harness failed",
            wanted="a simulated run is the same when it is run again",
            seen=f"{len(diverged)} of {summary.campaign.run_twice} were not; seed {diverged[0].seed}: {diverged[0].message}",
            advice=diverged[0].reproduce,
        )


def _safety(summary: Summary) -> Iterator[Finding]:
    campaign = summary.campaign
    for broken in summary.broken:
        first = broken.violations[0]
        yield Finding(
            limit=f"invariants.{broken.invariant}",
            sort="safety",
            state="violated",
            wanted=f"{broken.invariant} {broken.title} holds in every run",
            seen=f"violated in {broken.seeds} of {len(campaign.runs)} runs, first with seed {first.seed}",
            advice=first.reproduce,
        )
    if not summary.broken:
        failed = campaign.verdict == "fail"
        held = f"{len(campaign.invariants)} checked in each of {count(len(campaign.runs), 'run')}, none violated"
        yield Finding(
            limit="invariants",
            sort="safety",
            state="violated" if failed else "kept",
            wanted="all hold in every run",
            seen=plain("; ".join(campaign.reasons) if failed else held),
        )


def _exercised(summary: Summary, limits: Limits) -> Iterator[Finding]:
    campaign = summary.campaign
    if campaign.verdict == "inconclusive" and not campaign.harness_failed:
        yield Finding(
            limit="verdict",
            sort="coverage",
            state="undecided",
            wanted="a campaign that proves something",
            seen="; ".join(campaign.reasons) or "inconclusive",
            advice=summary.reproduce or "run it again, with more seeds",
        )
    judged = summary.passed + summary.failed
    yield Finding(
        limit="runs.minimum",
        sort="coverage",
        state="kept" if judged >= limits.minimum_runs else "undecided",
        wanted=f"≥ {limits.minimum_runs}",
        seen=plain(count(judged, "judged run")),
        advice="" if judged >= limits.minimum_runs else f"run --seeds {limits.minimum_runs} or more",
    )
    if limits.checked:
        absent = [invariant for invariant in limits.checked if invariant not in campaign.invariants]
        yield Finding(
            limit="invariants.checked",
            sort="coverage",
            state="undecided" if absent else "kept",
            wanted=f"{', '.join(limits.checked)} checked",
            seen=f"without {', '.join(absent)}" if absent else "all checked in every run",
            advice="name them in the scenario's invariants" if absent else "",
        )
    fired = {kind.kind: kind.fired for kind in summary.kinds}
    for kind in limits.kinds:
        enough = fired.get(kind, 0) >= limits.fired
        yield Finding(
            limit=f"coverage.{kind}",
            sort="coverage",
            state="kept" if enough else "undecided",
            wanted=f"≥ {limits.fired} fired",
            seen=f"{fired.get(kind, 0)} fired",
            advice="" if enough else f"more seeds, or --faults {kind} for runs of it alone",
        )


def _recovery(summary: Summary, wanted: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[Finding]:
    samples = {kind.kind: kind.phases for kind in summary.kinds if kind.fired}
    own = {(kind, phase) for kind, phases in wanted.items() for phase in phases}
    for kind, phases in wanted.items():
        for phase, quantiles in phases.items():
            named = kind != EVERY_KIND
            kinds = [kind] if named else [one for one in samples if (one, phase) not in own]
            for one in kinds:
                sample = samples[one][phase] if one in samples else Sample(phase, (), 0)
                if not named and not sample.n:
                    continue  # it hit nothing in flight: there was nothing to recover
                for quantile, limit in quantiles.items():
                    yield of_quantile(f"recovery.{one}.{phase}.{quantile}", sample, quantile, limit)
            if not kinds:
                yield Finding(
                    limit=f"recovery.{kind}.{phase}",
                    sort="timing",
                    state="undecided",
                    wanted="a recovery to measure",
                    seen="no fault fired",
                    advice="run with faults",
                )


def of_quantile(where: str, sample: Sample, quantile: str, limit: float) -> Finding:
    """Kept if the upper 95 % bound is within the limit, missed if the lower one is beyond, else undecided."""
    low, high = bounds(sample, QUANTILES[quantile])
    state: State = "undecided"
    advice = ""
    n = f"n = {sample.n}" + (f", {sample.not_seen} not seen" if sample.not_seen else "")
    if low is not None and low > limit:
        state = "missed"
        advice = "recovery is slower than the limit allows, by more than chance"
        seen = f"{'mostly not seen' if math.isinf(low) else f'at least {plain(duration(low))}'} (95 %), {n}"
    elif high is not None and high <= limit:
        state, seen = "kept", f"at most {plain(duration(high))} (95 %), {n}"
    elif high is None:
        needed = smallest(quantile)
        seen = f"n too small: {sample.n} of {needed}" + (f", {sample.not_seen} not seen" if sample.not_seen else "")
        advice = f"{max(needed - sample.n, 1)} more recoveries, so more seeds"
    else:
        seen = f"{plain(duration_range(low if low is not None else 0.0, high))} (95 %), {n}"
        advice = "the limit lies within the interval: more seeds make it narrower, or give the limit some room"
    return Finding(
        limit=where, sort="timing", state=state, wanted=f"≤ {plain(duration(limit))}", seen=seen, advice=advice
    )


def bounds(sample: Sample, quantile: float) -> tuple[float | None, float | None]:
    """Between which two values the quantile lies, with 95 %: both sides together for the median, else each side."""
    if quantile == QUANTILES["p50"]:
        interval = sample.interval
        return (None, None) if interval is None else (interval.low, interval.high)
    return statistics.lower_bound(sample.values, quantile), statistics.upper_bound(sample.values, quantile)


def smallest(quantile: str) -> int:
    """How many observations bound the quantile from above."""
    return statistics.smallest_n_median() if quantile == "p50" else statistics.smallest_n(QUANTILES[quantile])


def _progress(summary: Summary, limits: Limits) -> Iterator[Finding]:
    if limits.longest_window is None:
        return
    longest, seed = max(((stall, run.seed) for run in summary.campaign.runs for stall in run.stalls), default=(0.0, 0))
    kept = longest <= limits.longest_window
    yield Finding(
        limit="progress.longest-window",
        sort="timing",
        state="kept" if kept else "missed",
        wanted=f"≤ {plain(duration(limits.longest_window))}",
        seen=f"{plain(duration(longest))}, seed {seed}" if longest else "none longer than 0.1 s",
        advice="" if kept else next((run.reproduce for run in summary.campaign.runs if run.seed == seed), ""),
    )


def _waste(summary: Summary, limits: Limits) -> Iterator[Finding]:
    totals = summary.totals
    wanted = (
        ("reruns-per-fault", limits.reruns_per_fault, totals.bodies_rerun, "bodies run again"),
        (
            "attempts-without-checkpoint-per-fault",
            limits.attempts_per_fault,
            totals.attempts_without_checkpoint,
            "attempts",
        ),
    )
    for name, limit, events, what in wanted:
        if limit is None:
            continue
        each = events / summary.fired if summary.fired else math.nan
        state: State = "undecided" if math.isnan(each) else "kept" if each <= limit else "missed"
        yield Finding(
            limit=f"waste.{name}",
            sort="timing",
            state=state,
            wanted=f"≤ {limit:g}",
            seen=f"{each:.2f} ({events} {what}, {summary.fired} faults)" if summary.fired else "no fault fired",
            advice=""
            if state == "kept"
            else "more work than before is done twice"
            if summary.fired
            else "run with faults",
        )
