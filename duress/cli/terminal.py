"""Where to write: results on stdout, progress on stderr if that is a terminal. rich honours NO_COLOR by itself."""

import sys
from typing import Any

from rich.console import Console

from duress.reports.wording import plain
from duress.scenarios.coverage import Swept
from duress.scenarios.result import Divergence, Run


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


class Progress:
    """Shows how a campaign goes; says nothing unless stderr is a terminal. A `Watcher`, and a context manager."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._console = Console(file=sys.stderr, highlight=False)
        self._counts = {"pass": 0, "fail": 0, "inconclusive": 0}
        self._live: Any = None

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            from rich.status import Status

            self._live = Status(self._text("starting"), console=self._console)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def began(self, seed: int) -> None:
        self._say(f"seed {seed}")

    def ended(self, run: Run) -> None:
        self._counts[run.verdict] += 1
        if self._live is not None and run.verdict != "pass":
            why = run.violations[0].message if run.violations else "; ".join(run.reasons)
            self._console.print(f"seed {run.seed}: {run.verdict}: {plain(why)}", markup=False, soft_wrap=True)

    def swept(self, one: Swept) -> None:
        """A run of a sweep has ended."""
        self._counts["inconclusive" if one.verdict == "unexplained" else one.verdict] += 1
        self._say(one.targets[0].text)

    def _say(self, what: str) -> None:
        if self._live is not None:
            self._live.update(self._text(what))

    def _text(self, what: str) -> str:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self._counts.items() if count)
        done = sum(self._counts.values())
        return f"{self._label.replace('[', '(')}: {done} of {self._total} runs ({counts or 'none yet'}), {what}"
