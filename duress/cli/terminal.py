"""Where results go, and how they are said in a terminal. rich honours NO_COLOR by itself."""

import sys

from rich.console import Console

from duress.reports.wording import plain
from duress.scenarios.result import Divergence


def results() -> Console:
    """For results."""
    return Console(file=sys.stdout, highlight=False)


def divergence(found: Divergence) -> str:
    """Where two runs of one seed part, with both sides."""
    place = "in what came out" if found.entry is None else f"at entry {found.entry}"
    if found.asked is not None:
        place += f", in the answer to: {found.asked}"
    lines = [f"seed {found.seed} cannot be repeated: its two runs part {place}"]
    lines += [f"          {entry}" for entry in found.before]
    lines += [f"  1st run {found.first}", f"  2nd run {found.second}", f"reproduce with: {found.reproduce}"]
    return plain("\n".join(lines))
