"""How long recovery took, drawn: the phases of each fault kind, and the distribution of the time to the first new
checkpoint.

One panel per fault kind on one logarithmic axis, so that kinds compare at a glance whether they take 5 ms or 5 s.
Recoveries that were not seen keep a curve below 100 %.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from duress.reports import plotting, statistics
from duress.reports.summary import FaultKind, Sample, Summary, visible_phases
from duress.reports.wording import duration, duration_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kinds = Sequence[FaultKind]


def plots(summary: Summary, baseline: Summary | None = None) -> list[plotting.Plot]:
    """The plot of phases and that of distributions, the latter with a baseline's; none if no fault fired."""
    then = {kind.kind: kind.first for kind in baseline.kinds} if baseline is not None else {}
    kinds = [kind for kind in summary.kinds if any(sample.n for sample in kind.phases.values())]
    if not kinds:
        return []
    return [
        _plot("recovery-phases", "Recovery, phase by phase", _describe_phases(kinds), _draw_phases, kinds),
        _plot(
            "recovery-ecdf",
            "Time to the first new checkpoint",
            _describe_ecdf(kinds, then),
            partial(_draw_ecdf, then=then),
            kinds,
        ),
    ]


def _plot(
    name: str, title: str, description: str, draw: Callable[[Kinds, int], "Figure"], kinds: Kinds
) -> plotting.Plot:
    with plotting.style():
        wide = draw(kinds, plotting.WIDE)
        narrow = draw(kinds, plotting.NARROW)
        return plotting.Plot(
            name=name,
            title=title,
            description=description,
            wide=plotting.svg(wide, f"{name}-wide", description),
            narrow=plotting.svg(narrow, f"{name}-narrow", description),
            png=plotting.png(wide, title),
        )


@contextmanager
def _panels(kinds: Kinds, width: int, panel_height: int) -> Iterator[tuple["Figure", list["Axes"]]]:
    """A grid of panels that share both axes, two columns where there is room."""
    columns = 2 if width >= plotting.WIDE and len(kinds) > 1 else 1
    rows = math.ceil(len(kinds) / columns)
    figure = plotting.canvas(width, rows * panel_height + 30)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for unused in axes[len(kinds) :]:
        unused.set_visible(False)
    yield figure, axes[: len(kinds)]
    for index, panel in enumerate(axes[: len(kinds)]):
        if index + columns >= len(kinds):  # the lowest of its column says what the axis is
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("since the fault was injected")


def _limits(samples: Sequence[Sample]) -> tuple[float, float]:
    seen = [value for sample in samples for value in sample.seen if value > 0] or [0.01, 1.0]
    return min(seen) / 1.6, max(seen) * 1.6


def _draw_ecdf(kinds: Kinds, width: int, then: Mapping[str, Sample]) -> "Figure":
    low, high = _limits([kind.first for kind in kinds] + [then[kind.kind] for kind in kinds if kind.kind in then])
    with _panels(kinds, width, 150) as (figure, panels):
        for kind, axes in zip(kinds, panels, strict=True):
            plotting.time_axis(axes, low, high)
            axes.set_ylim(0, 1.02)
            axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
            axes.set_title(kind.kind)
            axes.set_title(_in_short(kind.first), loc="right", fontweight="normal", color=plotting.MUTED, fontsize=11)
            if kind.kind in then and then[kind.kind].n:
                _draw_baseline(axes, then[kind.kind], low, high)
            if kind.first.n:
                _draw_curve(axes, kind.first, low, high)
        if then:
            _draw_legend(figure)
    return figure


def _draw_baseline(axes: "Axes", sample: Sample, low: float, high: float) -> None:
    share = [rank / sample.n for rank in range(len(sample.seen) + 1)]
    edges = [low, *(max(value, low) for value in sample.seen), high]
    axes.step(edges, [*share, share[-1]], where="post", color=plotting.MUTED, lw=1.5, ls=(0, (4, 2)))


def _draw_legend(figure: "Figure") -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=plotting.BLUE, lw=1.8, label="this campaign"),
        Line2D([], [], color=plotting.MUTED, lw=1.5, ls=(0, (4, 2)), label="baseline"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False, fontsize=11)


def _draw_curve(axes: "Axes", sample: Sample, low: float, high: float) -> None:
    share = [rank / sample.n for rank in range(len(sample.seen) + 1)]
    margin = statistics.dkw_half_width(sample.n)
    edges = [low, *(max(value, low) for value in sample.seen), high]
    lower = [max(0.0, part - margin) for part in share]
    upper = [min(1.0, part + margin) for part in share]
    axes.fill_between(
        edges, [*lower, lower[-1]], [*upper, upper[-1]], step="post", color=plotting.BLUE, alpha=0.16, lw=0
    )
    axes.step(edges, [*share, share[-1]], where="post", color=plotting.BLUE, lw=1.8)
    median = sample.median
    if sample.interval is not None and median is not None and math.isfinite(median):
        reach = min(sample.interval.high, high)
        axes.plot([sample.interval.low, reach], [0.5, 0.5], color=plotting.VERMILLION, lw=2.2, solid_capstyle="butt")
        axes.plot([median], [0.5], "o", color=plotting.VERMILLION, ms=5.5)


def _draw_phases(kinds: Kinds, width: int) -> "Figure":
    phases = list(visible_phases(kinds))
    low, high = _limits([sample for kind in kinds for sample in kind.phases.values()])
    high *= 4  # room for the figures
    with _panels(kinds, width, 150) as (figure, panels):
        for kind, axes in zip(kinds, panels, strict=True):
            plotting.time_axis(axes, low, high)
            axes.set_ylim(len(phases) - 0.4, -0.6)
            axes.set_yticks(range(len(phases)), phases)
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
            axes.set_title(kind.kind)
            fired = f"{kind.fired} fired"
            axes.set_title(fired, loc="right", fontweight="normal", color=plotting.MUTED, fontsize=11)
            since = low
            for row, sample in enumerate(kind.phases[phase] for phase in phases):
                _draw_phase(axes, row, sample, low, since)
                if sample.interval is not None and sample.median is not None and math.isfinite(sample.median):
                    since = max(sample.median, low)
    return figure


def _draw_phase(axes: "Axes", row: int, sample: Sample, low: float, since: float) -> None:
    """A bar from the median of the phase before, so that phases fall like water, to the median with its interval; small
    rings for each value when there is no interval."""
    if not sample.seen:
        axes.text(
            low * 1.15,
            row,
            "not seen" if sample.n else "nothing in flight",
            color=plotting.MUTED,
            fontsize=10,
            va="center",
        )
        return
    if sample.interval is None:
        axes.plot(sample.seen, [row] * len(sample.seen), "o", mfc="none", mec=plotting.BLUE, ms=5, mew=1.2)
        note, at = f"n = {sample.n}", sample.seen[-1]
    elif math.isinf(sample.median or math.inf):
        axes.text(
            low * 1.15,
            row,
            f"not seen in {sample.not_seen} of {sample.n}",
            color=plotting.MUTED,
            fontsize=10,
            va="center",
        )
        return
    else:
        median, reach = sample.median or 0.0, min(sample.interval.high, sample.seen[-1])
        axes.plot([low, since], [row, row], color=plotting.GRID, lw=1.2)
        axes.plot([since, median], [row, row], color=plotting.BLUE, lw=11, alpha=0.18, solid_capstyle="butt")
        axes.plot(
            [sample.interval.low, reach], [row, row], color=plotting.BLUE, lw=5, alpha=0.35, solid_capstyle="butt"
        )
        axes.plot([median], [row], "o", color=plotting.BLUE, ms=6)
        note, at = duration(median), max(reach, median)
    axes.annotate(note, (at, row), (9, 0), textcoords="offset points", va="center", fontsize=11, color=plotting.INK)


def _in_short(sample: Sample) -> str:
    if not sample.n:
        return "nothing in flight"
    unseen = f", {sample.not_seen} not seen" if sample.not_seen else ""
    if sample.interval is None:
        return f"n {sample.n}: too small for a p50{unseen}"
    return f"p50 {duration(sample.median or 0.0)}, n {sample.n}{unseen}"


def _describe_phases(kinds: Kinds) -> str:
    told = []
    for kind in kinds:
        medians = [
            f"{name} {duration(sample.median)}"
            for name, sample in kind.phases.items()
            if sample.median is not None and sample.interval is not None
        ]
        told.append(f"{kind.kind}: {', '.join(medians) or 'too few for medians'}")
    return "Median time from fault to each phase of recovery. " + "; ".join(told) + "."


def _describe_ecdf(kinds: Kinds, then: Mapping[str, Sample]) -> str:
    told = []
    for kind in kinds:
        seen = kind.first.seen
        spread = f", from {duration_range(seen[0], seen[-1])}" if seen else ""
        before = f"; baseline {_in_short(then[kind.kind])}" if kind.kind in then else ""
        told.append(f"{kind.kind}: {_in_short(kind.first)}{spread}{before}")
    return "Share of recoveries that had a first new checkpoint by a given time. " + "; ".join(told) + "."
