"""A campaign against an earlier one: slower only if the evidence says so, and only if it matters.

For each fault kind and phase three things must hold together. The one-sided Mann-Whitney U test says that recoveries
tend to be longer, at 5 % for all comparisons of the gate together (Holm, Scandinavian Journal of Statistics 6, 1979). The
95 % intervals of the two medians do not overlap. The median is longer by the minimum effect, relative and absolute. The
first finds a shift, the second guards against a difference in shape alone, the third against what nobody would notice.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from duress.reports import statistics
from duress.reports.gate.limits import Baseline
from duress.reports.gate.outcome import Finding, State
from duress.reports.summary import Sample, Summary
from duress.reports.wording import duration, duration_range, percent, plain

ALPHA = 0.05  # for all comparisons of one gate together
_SAME = 0.005  # a relative change that is not worth a word


@dataclass(frozen=True, slots=True)
class _Pair:
    where: str
    now: Sample
    then: Sample

    @property
    def comparable(self) -> bool:
        return self.now.interval is not None and self.then.interval is not None

    @property
    def p(self) -> float:
        """How likely so large a shift to longer times is by chance."""
        from scipy.stats import mannwhitneyu

        return float(mannwhitneyu(self.now.values, self.then.values, alternative="greater").pvalue)


def compared(now: Summary, then: Summary, wanted: Baseline) -> Iterator[Finding]:
    """One finding for each fault kind and phase."""
    pairs = [pair for pair in _pairs(now, then, wanted) if pair.now.n or pair.then.n]
    able = [pair for pair in pairs if pair.comparable]
    adjusted = dict(zip((pair.where for pair in able), holm([pair.p for pair in able]), strict=True))
    for pair in pairs:
        yield _compared(pair, adjusted[pair.where], wanted) if pair.comparable else _too_few(pair)
    if not pairs:
        yield Finding(
            limit="baseline",
            sort="timing",
            state="undecided",
            wanted="a recovery to compare",
            seen="no kind of fault has recoveries here or there",
            advice="run both with the same faults",
        )


def _pairs(now: Summary, then: Summary, wanted: Baseline) -> Iterator[_Pair]:
    here = {kind.kind: kind for kind in now.kinds}
    there = {kind.kind: kind for kind in then.kinds}
    for kind in wanted.kinds if wanted.kinds is not None else sorted(here.keys() | there.keys()):
        for phase in wanted.phases:
            nothing = Sample(phase, (), 0)
            yield _Pair(
                f"baseline.{kind}.{phase}",
                here[kind].phases[phase] if kind in here else nothing,
                there[kind].phases[phase] if kind in there else nothing,
            )


def holm(ps: Sequence[float]) -> list[float]:
    """The p values, adjusted so that comparing each with ALPHA errs in any of them at ALPHA only."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    adjusted, greatest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        greatest = max(greatest, min(1.0, ps[place] * (len(ps) - rank)))
        adjusted[place] = greatest
    return adjusted


def _compared(pair: _Pair, p: float, wanted: Baseline) -> Finding:
    now, then = pair.now, pair.then
    assert now.interval is not None and then.interval is not None
    new, old = now.median or 0.0, then.median or 0.0
    least = max(old * wanted.minimum_effect, wanted.minimum_seconds)
    evident = p < ALPHA and now.interval.low > then.interval.high
    matters = math.isfinite(old) and new - old >= least
    state: State = "missed" if evident and matters else "kept"
    why = f"p = {p:.2g}" + ("" if evident or p >= ALPHA else ", medians' intervals overlap")
    if evident and not matters:
        why += ", too small a change to matter"
    return Finding(
        limit=pair.where,
        sort="timing",
        state=state,
        wanted=f"not slower than {_told(then)}",
        seen=f"{_told(now)}{_change(old, new)}; {why}",
        advice="slower than the baseline by more than chance and by more than the minimum effect"
        if state == "missed"
        else "",
    )


def _change(old: float, new: float) -> str:
    if not (math.isfinite(old) and math.isfinite(new)) or old <= 0:
        return ""
    if abs(new / old - 1) < _SAME:
        return ", the same"
    return f", {plain(percent(abs(new / old - 1)))} {'slower' if new > old else 'faster'}"


def _told(sample: Sample) -> str:
    interval = sample.interval
    assert interval is not None
    spread = plain(duration_range(interval.low, interval.high))
    return f"p50 {plain(duration(sample.median or 0.0))} (95 %: {spread}; n = {sample.n})"


def _too_few(pair: _Pair) -> Finding:
    needed = statistics.smallest_n_median()
    return Finding(
        limit=pair.where,
        sort="timing",
        state="undecided",
        wanted="not slower than the baseline",
        seen=f"n too small: {pair.now.n} here and {pair.then.n} in the baseline, of {needed} a side",
        advice='more seeds, or leave the kind out: [baseline] kinds = ["…"]',
    )
