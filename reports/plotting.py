"""What all plots share: a palette, a quiet style, and how a figure becomes a PNG or an SVG that fits into a page.

Colours are roles. In a PNG a role has its light colour; in the SVG it is a CSS variable of the page
(`var(--plot-ink)`), so that one drawing serves light, dark and print. Hues are those of M. Okabe and K. Ito, Color
Universal Design (2008), and no two things are told apart by hue alone. The bytes depend on the campaign and on
matplotlib's version, on nothing else.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported when drawn: it costs a second
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK = "#1b1f24"
MUTED = "#57606b"
GRID = "#d5dbe2"
SURFACE = "#fefefe"
QUIET = "#e9edf1"  # there, but not the point
BLUE = "#0072b2"
ORANGE = "#e69f00"
VERMILLION = "#d55e00"
GREEN = "#009e73"
PURPLE = "#aa4499"  # darker than theirs (#cc79a7), for contrast on white
ROLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    SURFACE: "surface",
    QUIET: "quiet",
    BLUE: "blue",
    ORANGE: "orange",
    VERMILLION: "vermillion",
    GREEN: "green",
    PURPLE: "purple",
}
WIDE, NARROW = 760, 360  # CSS pixels at which text has its nominal size: a screen or paper, and a phone
_POINTS_PER_INCH = 72  # matplotlib's SVG counts in points; one point is drawn as one CSS pixel
_PNG_DPI = 144
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a PNG looks the same everywhere
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.facecolor": "none",
    "figure.facecolor": SURFACE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "hatch.color": MUTED,
    "hatch.linewidth": 0.8,
    "svg.fonttype": "none",  # text stays text: it can be found, copied and read aloud
    "svg.hashsalt": "duress",
    "path.simplify": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing for the page and for the file beside it."""

    name: str  # unique in the report; the PNG's name and the prefix of the SVG's ids
    title: str
    description: str  # what the picture shows, with its figures, for who cannot see it
    wide: str  # SVG
    narrow: str  # SVG
    png: bytes


@contextmanager
def style() -> Iterator[None]:
    """Draw with our style and matplotlib's own defaults, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def canvas(width: int, height: float) -> "Figure":
    """An empty figure of `width` × `height` CSS pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), layout="constrained")


def png(figure: "Figure", title: str) -> bytes:
    """The figure under a title as a PNG for light backgrounds, at twice the pixels of a plain screen, without dates or
    versions. Draw the SVG first: the title stays."""
    buffer = io.BytesIO()
    figure.set_figheight(figure.get_figheight() + 30 / _POINTS_PER_INCH)
    figure.suptitle(title, x=0.008, ha="left", fontweight="bold", fontsize=14)
    figure.savefig(buffer, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: "Figure", name: str, label: str) -> str:
    """The figure as an `svg` element for a page: no size of its own, no background, colours from the page, ids that
    begin with `name`, and `label` as its alternative text."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    opening, rest = text.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', opening)
    assert view is not None, "matplotlib always writes a viewBox"
    text = f'<svg role="img" aria-label="{escape(label)}" {view[0]} xmlns:xlink="http://www.w3.org/1999/xlink">{rest}'
    text = re.sub(r' d="([^"]*)"', lambda match: f' d="{_short(match[1])}"', text)
    text = _own_ids(text, name)
    text = re.sub(r"'?DejaVu Sans'?", "var(--font)", text)
    for colour, role in ROLES.items():
        text = text.replace(colour, f"var(--plot-{role})")
    return text


def time_axis(axes: "Axes", low: float, high: float) -> None:
    """A logarithmic axis of durations from `low` to `high` seconds, with round labels ("10 ms", "1 s")."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _label_durations(axes.xaxis, low, high)


def time_axis_upward(axes: "Axes", low: float, high: float) -> None:
    """The same, upward."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    _label_durations(axes.yaxis, low, high)


def _label_durations(axis: "Axis", low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    steps = [factor * 10.0**power for power in range(-5, 5) for factor in (1, 2, 5)]
    decades = [step for step in steps[::3] if low <= step <= high]
    ticks = decades if len(decades) >= 2 else [step for step in steps if low <= step <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(ticks, [_round_duration(tick) for tick in ticks])


def _round_duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def _short(path: str) -> str:
    """A path with its coordinates rounded to a tenth of a pixel: half the bytes, and no eye sees it."""
    path = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), path)
    return " ".join(path.split())


def _own_ids(text: str, name: str) -> str:
    """Drop the ids that nothing refers to, and prefix the others: a page holds many figures and each id once."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r' id="([^"]*)"', renamed, text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
