"""How a campaign goes, on stderr: a view that moves on a terminal, plain lines elsewhere, nothing when asked to be quiet."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from duress.reports.page import MARKS
from duress.reports.wording import duration, plain
from duress.scenarios.coverage import Swept
from duress.scenarios.result import Run, Verdict

EVERY: Final = 10.0  # seconds between two plain lines
_STYLES: Final = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}
_BAR: Final = 30
_ENOUGH: Final = 2  # runs after which the time left is worth telling


@contextmanager
def writing(what: str, *, quiet: bool) -> Iterator[None]:
    """While something is written that takes its time: a terminal says so."""
    console = Console(file=sys.stderr, highlight=False)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(Text(what)):
        yield


class Progress:
    """A `Watcher`, and a context manager. `kinds`: of faults that are drawn from; all of them are to fire."""

    def __init__(
        self,
        label: str,
        total: int,
        kinds: Collection[str] = (),
        *,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._total = total
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._clock = clock
        self._quiet = quiet
        self._began = self._told = clock()
        self._verdicts: Counter[Verdict] = Counter()
        self._planned: Counter[str] = Counter(dict.fromkeys(kinds, 0))
        self._fired: Counter[str] = Counter()
        self._running: dict[int, None] = {}
        self._target = ""
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        self._began = self._told = self._clock()
        if self._console.is_terminal and not self._quiet:
            self._live = Live(get_renderable=self.view, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def began(self, seed: int) -> None:
        """A run begins."""
        self._running[seed] = None

    def ended(self, run: Run) -> None:
        """A run has ended; one that did not pass is told at once."""
        self._running.pop(run.seed, None)
        self._verdicts[run.verdict] += 1
        for fault in run.faults:
            self._planned[fault.kind] += 1
            self._fired[fault.kind] += fault.fired
        if self._quiet:
            return
        if run.verdict != "pass":
            why = run.violations[0].message if run.violations else "; ".join(run.reasons)
            told = f"{MARKS[run.verdict]} seed {run.seed}: {run.verdict}: {plain(why)}"
            self._console.print(Text(told, style=_STYLES[run.verdict]), soft_wrap=True)
        self._tell_now_and_then()

    def swept(self, one: Swept) -> None:
        """A run of a sweep has ended."""
        self._verdicts["inconclusive" if one.verdict == "unexplained" else one.verdict] += 1
        self._target = one.targets[0].text
        self._tell_now_and_then()

    def view(self) -> RenderableType:
        """What a terminal shows now."""
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self._total, 1), completed=self._done, width=_BAR)
        head.add_row(Text(plain(self._label), style="bold"), bar, Text(plain(self._sentence())))
        lines: list[RenderableType] = [head, self._verdict_line()]
        if self._planned:
            lines.append(self._fault_line())
        return Group(*lines)

    def _tell_now_and_then(self) -> None:
        """A plain line, where nothing can move."""
        if self._live is not None or self._quiet:
            return
        if self._clock() - self._told >= EVERY or self._done == self._total:
            self._told = self._clock()
            self._console.print(Text(plain(f"{self._label}: {self._sentence()}")), soft_wrap=True)

    @property
    def _done(self) -> int:
        return sum(self._verdicts.values())

    def _sentence(self) -> str:
        spent = max(self._clock() - self._began, 1e-9)
        parts = [f"{self._done} of {self._total} runs"]
        if self._done:
            parts.append(f"{self._done / spent:.2g} seeds/s")
        failed = {verdict: count for verdict, count in self._verdicts.items() if verdict != "pass"}
        parts += [f"{count} {verdict}" for verdict, count in failed.items()]
        if self._done >= _ENOUGH and self._done < self._total:
            parts.append(f"{duration((self._total - self._done) * spent / self._done)} left")
        else:
            parts.append(duration(spent))
        return ", ".join(parts)

    def _verdict_line(self) -> Text:
        line = Text("  ")
        for verdict in MARKS:
            count = self._verdicts[verdict]  # type: ignore[index]
            line.append(f"{MARKS[verdict]} {count} {verdict}   ", style=_STYLES[verdict] if count else "dim")
        if self._running:
            line.append(f"running: seed {', '.join(map(str, self._running))}", style="dim")
        if self._target:
            line.append(f"last: {plain(self._target)}", style="dim")
        return line

    def _fault_line(self) -> Text:
        """Each kind that fired, with how often; then those that have not yet."""
        line = Text("  ")
        for place, (words, style) in enumerate(self._faults()):
            line.append(("   " if place else "") + words, style=style)
        return line

    def _faults(self) -> Iterator[tuple[str, str]]:
        for kind in sorted(self._fired):
            if fired := self._fired[kind]:
                short = fired < self._planned[kind]
                yield f"{kind} {fired}" + (f" of {self._planned[kind]}" if short else ""), "yellow" if short else ""
        if waiting := [kind for kind in sorted(self._planned) if not self._fired[kind]]:
            share = f"{len(self._planned) - len(waiting)} of {len(self._planned)} kinds fired"
            yield f"{share}, not yet: {', '.join(waiting)}", "dim"
