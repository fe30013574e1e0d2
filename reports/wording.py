"""How figures are worded: one way for a duration, a count and a share, on paper, on screen and in the terminal.

Durations are given with two or three significant digits, because no recovery is known better than that.
"""

import math
import re
from datetime import UTC, datetime

NBSP = "\N{NO-BREAK SPACE}"  # between a number and its unit, so that a line never ends between them
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def duration(seconds: float) -> str:
    """A duration as in "4.3 ms", "24 ms", "1.23 s", "61 s"; "not seen" if infinite."""
    if math.isinf(seconds):
        return "not seen"
    number, unit = _split(seconds)
    return f"{number}{NBSP}{unit}"


def duration_range(low: float, high: float) -> str:
    """A range as in "20–31 ms": the unit once if both share it; "over 20 ms" if there is no upper end."""
    if math.isinf(high):
        return "not seen" if math.isinf(low) else f"over {duration(low)}"
    (low_number, low_unit), (high_number, high_unit) = _split(low), _split(high)
    if (low_number, low_unit) == (high_number, high_unit):
        return duration(low)
    if low_unit == high_unit:
        return f"{low_number}–{high_number}{NBSP}{high_unit}"
    if low >= 0.1:  # "0.84–1.22 s" reads better than two units
        return f"{low:.2f}–{high_number}{NBSP}{high_unit}"
    return f"{low_number}{NBSP}{low_unit} – {high_number}{NBSP}{high_unit}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A count as in "1 run", "2,000 runs"; `plural` for the irregular ones."""
    return f"{number:,}{NBSP}{noun if number == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """A share as in "12 %", "0.30 %": two significant digits below ten per cent."""
    value = 100 * share
    digits = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:.{digits}f}{NBSP}%"


def moment(seconds: float) -> str:
    """A date and time in UTC, from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def printable(text: str) -> str:
    """`text` with characters that XML 1.0 and HTML forbid (most control characters) replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def plain(text: str) -> str:
    """`text` for a terminal or a log, where a no-break space would only defeat a search."""
    return printable(text).replace(NBSP, " ")


def _split(seconds: float) -> tuple[str, str]:
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f}", "ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}", "ms"
    if seconds < 9.995:
        return f"{seconds:.2f}", "s"
    return f"{seconds:.0f}", "s"
