"""One run, drawn: who was alive, who held which leases and how much work, when faults struck, and what throughput and
latency did.

A lane per worker above the throughput at 100 ms or finer and the latency of each workflow, on one time axis. The height of a
lane's area is the number of workflows the worker owned; those it took over from another (epoch above 1) are told apart by
colour and by lying on top.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from duress.reports import plotting
from duress.reports.wording import count
from duress.scenarios.result import Campaign, FaultRecord, Run, Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = ((4.0, 0.1), (0.0, 0.02))  # a run that is longer than so many seconds → the width of a bin, in seconds
_LANE = (0.26, 0.92)  # the part of a lane's height in which work is drawn
_LEASES = (0.08, 0.16)  # below it, by turns, so that one can see where the leases of two incarnations meet
_SHOWN = 3
_COMPARED = ("inconclusive", "pass", "fail")


def chosen(campaign: Campaign) -> list[Run]:
    """The runs worth a picture, at most three: two failing ones, and to compare with, one that did not fail (of these:
    those with spans first, then inconclusive ones, then those with most faults)."""
    drawable = [run for run in sorted(campaign.runs, key=lambda run: run.seed) if run.spans or run.progress]
    failing = [run for run in drawable if run.verdict == "fail"][: _SHOWN - 1]
    others = [run for run in drawable if run not in failing]
    others.sort(key=lambda run: (not run.spans, _COMPARED.index(run.verdict), -len(fired(run)), run.seed))
    return failing + others[: 1 if failing else 2]


def fired(run: Run) -> list[FaultRecord]:
    """The faults of a run that took effect, in that order: the numbers in the picture count them from 1."""
    return sorted((fault for fault in run.faults if fault.effect is not None), key=lambda fault: fault.effect or 0.0)


def plot(run: Run, workers: int) -> plotting.Plot:
    """The picture of `run`."""
    name = f"run-seed-{run.seed}"
    description = describe(run)
    with plotting.style():
        wide, narrow = (_draw(run, workers, width) for width in (plotting.WIDE, plotting.NARROW))
        return plotting.Plot(
            name=name,
            title=f"Seed {run.seed}",
            description=description,
            wide=plotting.svg(wide, f"{name}-wide", description),
            narrow=plotting.svg(narrow, f"{name}-narrow", description),
            png=plotting.png(wide, f"Seed {run.seed}: {run.verdict}"),
        )


def describe(run: Run) -> str:
    """The picture in words: verdict, faults by time, and the longest time without progress."""
    faults = "; ".join(f"{fault.kind} at {fault.effect:.2f} s" for fault in fired(run)) or "none"
    moments = [0.0, *sorted(run.progress)]
    pause = max((after - before for before, after in itertools.pairwise(moments)), default=0.0)
    return (
        f"Workers and throughput over time in the run of seed {run.seed}, verdict {run.verdict}: "
        f"{count(len(run.progress), 'checkpoint')} in {run.seconds:.1f} s; faults: {faults}; "
        f"longest time without a checkpoint {pause:.2f} s."
    )


def _draw(run: Run, workers: int, width: int) -> "Figure":
    wide = width >= plotting.WIDE
    lanes = max([workers, *(span.worker + 1 for span in run.spans)]) if run.spans else 0
    end = _end(run)
    heights = [*([lanes * 44] if lanes else []), 110, *([90] if run.latencies else [])]
    figure = plotting.canvas(width, sum(heights) * (1.0 if wide else 0.9) + (80 if wide else 120))
    panels = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights).flat)
    rest = iter(panels)
    if lanes:
        _draw_lanes(lane := next(rest), run.spans, lanes)
        _draw_bands(lane, run, lanes)
    _draw_throughput(throughput := next(rest), run.progress, end)
    _draw_bands(throughput, run, 0)
    for latency in rest:
        _draw_latencies(latency, run.latencies)
        _draw_bands(latency, run, 0)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    panels[-1].set_xlim(0, end)
    panels[-1].set_xlabel("seconds since the workload began")
    _draw_numbers(panels[0], run, room=end * (0.035 if wide else 0.09))
    if lanes:
        figure.legend(
            handles=_legend(run.spans), loc="outside lower left", ncols=3 if wide else 2, frameon=False, fontsize=11
        )
    return figure


def _end(run: Run) -> float:
    """Where the time axis ends: with the last thing that happened. What the run took (`seconds`) is another clock."""
    faults = [moment for fault in run.faults for moment in (fault.effect, fault.healed) if moment is not None]
    lives = [span.end for span in run.spans if span.what != "lease"]
    return max([*run.progress, *lives, *faults, *(end for end, _ in run.latencies)], default=0.0) or 1.0


def _draw_lanes(axes: "Axes", spans: Sequence[Span], lanes: int) -> None:
    owned = [_owned(spans, lane) for lane in range(lanes)]
    tallest = max((a + b for _, first, later in owned for a, b in zip(first, later, strict=True)), default=1)
    scale = (_LANE[1] - _LANE[0]) / max(tallest, 1)
    for lane in range(lanes):
        bottom = lanes - 1 - lane  # worker 0 on top
        own = sorted((span for span in spans if span.worker == lane), key=lambda span: (span.start, span.end))
        for what in ("alive", "paused", "lease"):
            for turn, span in enumerate(span for span in own if span.what == what):
                _draw_state(axes, span, bottom, turn)
        moments, first, later = owned[lane]
        if moments:
            base = [bottom + _LANE[0]] * len(moments)
            middle = [bottom + _LANE[0] + scale * number for number in first]
            top = [low + scale * number for low, number in zip(middle, later, strict=True)]
            axes.fill_between(moments, base, middle, step="post", color=plotting.BLUE, lw=0)
            axes.fill_between(moments, middle, top, step="post", color=plotting.ORANGE, lw=0)
        _draw_bodies(axes, [span for span in own if span.what == "step"], bottom + _LANE[0], scale)
    axes.set_ylim(0, lanes)
    axes.set_yticks([lanes - 0.5 - lane for lane in range(lanes)], [f"worker {lane}" for lane in range(lanes)])
    axes.tick_params(axis="both", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _draw_bodies(axes: "Axes", steps: Sequence[Span], base: float, scale: float) -> None:
    """A line as high as the number of bodies that run: where work is owned and nothing runs, it lies on the ground."""
    changes = sorted(change for span in steps for change in ((span.start, 1), (span.end, -1)))
    moments, heights, running = [0.0], [base], 0
    for moment, change in changes:
        running += change
        moments.append(moment)
        heights.append(base + scale * running)
    if changes:
        axes.step(moments, heights, where="post", color=plotting.INK, lw=0.6, alpha=0.75)


def _draw_state(axes: "Axes", span: Span, bottom: int, turn: int) -> None:
    from matplotlib.patches import Rectangle

    length = span.end - span.start
    if span.what == "lease":
        axes.plot(
            [span.start, span.end],
            [bottom + _LEASES[turn % 2]] * 2,
            color=plotting.GREEN,
            lw=2.4,
            solid_capstyle="butt",
        )
        return
    corner, height = (span.start, bottom + _LANE[0]), _LANE[1] - _LANE[0]
    if span.what == "alive":
        axes.add_patch(Rectangle(corner, length, height, facecolor=plotting.QUIET, lw=0))
    else:
        axes.add_patch(
            Rectangle(corner, length, height, facecolor="none", edgecolor=plotting.MUTED, hatch="////", lw=0.6)
        )


def _owned(spans: Sequence[Span], worker: int) -> tuple[list[float], list[int], list[int]]:
    """When the number of workflows that `worker` owns changes, and to what: under their first epoch, and taken over.
    Where nothing was recorded about ownership, the bodies that ran stand in for it."""
    own = [span for span in spans if span.worker == worker and span.what == "owns"]
    own = own or [span for span in spans if span.worker == worker and span.what == "step"]
    changes: dict[float, list[int]] = {}
    for span in own:
        later = (span.epoch or 1) > 1
        for moment, change in ((span.start, 1), (span.end, -1)):
            changes.setdefault(moment, [0, 0])[later] += change
    moments, first, taken = sorted(changes), [], []
    totals = [0, 0]
    for moment in moments:
        totals = [totals[0] + changes[moment][0], totals[1] + changes[moment][1]]
        first.append(totals[0])
        taken.append(totals[1])
    return moments, first, taken


def _draw_throughput(axes: "Axes", progress: Sequence[float], end: float) -> None:
    width = next(width for longer_than, width in BINS if end > longer_than)
    bins = int(end / width) + 1
    counts = [0] * bins
    for moment in progress:
        if moment >= 0:
            counts[min(int(moment / width), bins - 1)] += 1
    axes.stairs(counts, [index * width for index in range(bins + 1)], fill=True, color=plotting.BLUE, lw=0)
    axes.set_ylim(0, max([*counts, 1]) * 1.08)
    axes.set_title(f"checkpoints per {1000 * width:g} ms", fontweight="normal", color=plotting.MUTED, fontsize=11)
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="y", nbins=4, integer=True)


def _draw_latencies(axes: "Axes", latencies: Sequence[tuple[float, float]]) -> None:
    """A dot for each workflow where it ended: finer than any bin, and nothing is averaged away."""
    seconds = [max(took, 1e-4) for _, took in latencies]
    axes.plot([end for end, _ in latencies], seconds, "o", color=plotting.BLUE, ms=2.6, alpha=0.7, mew=0)
    axes.set_title("time from start to end of each workflow", fontweight="normal", color=plotting.MUTED, fontsize=11)
    axes.grid(visible=False, axis="x")
    plotting.time_axis_upward(axes, min(seconds) / 1.5, max(seconds) * 1.5)


def _draw_bands(axes: "Axes", run: Run, lanes: int) -> None:
    """From effect to healing; in the lanes the victim's is darker (all of them, if the server was the victim)."""
    for fault in fired(run):
        start = fault.effect or 0.0
        stop = max(fault.healed or start, start)
        axes.axvspan(start, stop, color=plotting.VERMILLION, alpha=0.12, lw=0, zorder=0.5)
        axes.axvline(start, color=plotting.VERMILLION, lw=1, zorder=2.5)
        if lanes and fault.worker is not None and fault.worker < lanes:
            bottom = lanes - 1 - fault.worker
            axes.axvspan(
                start,
                stop,
                bottom / lanes,
                (bottom + 1) / lanes,
                color=plotting.VERMILLION,
                alpha=0.25,
                lw=0,
                zorder=0.6,
            )
            axes.plot([start], [bottom + 0.55], "X", color=plotting.VERMILLION, mec=plotting.SURFACE, ms=9, zorder=3)


def _draw_numbers(axes: "Axes", run: Run, room: float) -> None:
    """A number above each fault, raised where it would touch the one before."""
    last: list[float] = []  # the rightmost number on each height
    for number, fault in enumerate(fired(run), start=1):
        at = fault.effect or 0.0
        level = next((index for index, taken in enumerate(last) if at - taken >= room), len(last))
        last[level : level + 1] = [at]
        axes.annotate(
            str(number), (at, 1), (0, 4 + 14 * level), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", fontsize=11, fontweight="bold", color=plotting.VERMILLION,
        )  # fmt: skip


def _legend(spans: Sequence[Span]) -> list[object]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown = {span.what for span in spans}
    unit = "workflows owned" if "owns" in shown else "bodies running"
    handles: list[object] = [Patch(color=plotting.BLUE, label=unit)]
    if any((span.epoch or 1) > 1 for span in spans):
        handles.append(Patch(color=plotting.ORANGE, label="taken over (epoch > 1)"))
    if {"owns", "step"} <= shown:
        handles.append(Line2D([], [], color=plotting.INK, lw=1, label="bodies of steps that run"))
    if "lease" in shown:
        handles.append(Line2D([], [], color=plotting.GREEN, lw=2.6, label="lease"))
    if "alive" in shown:
        handles.append(Patch(color=plotting.QUIET, label="process alive"))
    if "paused" in shown:
        handles.append(Patch(facecolor="none", edgecolor=plotting.MUTED, hatch="////", lw=0.6, label="paused"))
    handles.append(Line2D([], [], color=plotting.VERMILLION, marker="X", lw=1, label="fault, until healed"))
    return handles
