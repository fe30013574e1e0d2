"""Exit codes, and which of several counts."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from duress.scenarios.result import Campaign

PASS: Final = 0
VIOLATED: Final = 1
USAGE: Final = 2
HARNESS_FAILED: Final = 3
INCONCLUSIVE: Final = 4
NOTHING_SELECTED: Final = 5
LIMIT_MISSED: Final = 6
INTERRUPTED: Final = 130

OF_VERDICT: Final = {"pass": PASS, "fail": VIOLATED, "inconclusive": INCONCLUSIVE}
OF_STATE: Final = {
    "kept": PASS,
    "violated": VIOLATED,
    "harness failed": HARNESS_FAILED,
    "undecided": INCONCLUSIVE,
    "missed": LIMIT_MISSED,
}  # of a gate's findings
_ORDER: Final = (USAGE, INTERRUPTED, VIOLATED, HARNESS_FAILED, LIMIT_MISSED, INCONCLUSIVE, NOTHING_SELECTED, PASS)


def first_of(codes: Iterable[int]) -> int:
    """The code that counts; PASS if there is none."""
    return min(codes, key=_ORDER.index, default=PASS)


def of_campaign(campaign: "Campaign") -> int:
    """A campaign's; when the harness failed, what is inconclusive is so for that reason."""
    own = OF_VERDICT[campaign.verdict]
    return first_of([own, HARNESS_FAILED]) if campaign.harness_failed else own
