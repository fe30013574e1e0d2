"""The verdict of a campaign in a terminal, on one screen: what happened, what broke, where the report lies, what to
paste.

A campaign that did not pass ends with ONE line that reproduces it, alone and never wrapped, so that it can be copied.
Nothing relies on colour, and text from the campaign is never read as markup.
"""

from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from duress.reports.page import MARKS, cell, headline
from duress.reports.shrunk import sizes, told
from duress.reports.summary import Broken, Summary, determinism, gaps, summarise
from duress.reports.wording import count, duration, plain
from duress.scenarios.result import Campaign

_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
_LISTED = 5  # invariants, reasons or gaps; the report has them all


def show(campaign: Campaign, console: Console, *, report: Path | None = None) -> None:
    """Print the verdict on `console`; `report` is the page to point to."""
    summary = summarise(campaign)
    console.print(_verdict(summary), soft_wrap=True)
    console.print(_counted(summary), soft_wrap=True)
    if (repeated := determinism(campaign)) is not None:
        console.print(Text(repeated, style=_STYLES["fail"] if campaign.divergences else "dim"), soft_wrap=True)
    if summary.kinds:
        console.print()
        console.print(_faults(summary))
    for broken in summary.broken[:_LISTED]:
        _show_broken(broken, console)
    if len(summary.broken) > _LISTED:
        console.print(Text(f"… and {len(summary.broken) - _LISTED} more broken invariants in the report"))
    if not summary.broken and campaign.verdict != "pass":
        _list("why:", campaign.reasons or ("no reason was given",), console)
    if summary.totals.acknowledged_lost:
        console.print()
        console.print(Text(plain(_lost(summary)), style="bold yellow"), soft_wrap=True)
    _list("not covered:", gaps(campaign, summary), console)
    if report is not None:
        console.print()
        console.print(Text(f"report: {report}"), soft_wrap=True)
    if campaign.verdict != "pass" and summary.reproduce:
        console.print()
        console.print(Text("reproduce with:"))
        console.print(Text(plain(summary.reproduce), style="bold"), soft_wrap=True)


def _verdict(summary: Summary) -> Text:
    campaign = summary.campaign
    canary = f" (canary {campaign.canary})" if campaign.canary else ""
    text = Text().append(f"{MARKS[campaign.verdict]} {campaign.verdict}", style=_STYLES[campaign.verdict])
    return text.append(plain(f"  {campaign.scenario}{canary}: {headline(summary)}"))


def _counted(summary: Summary) -> Text:
    campaign = summary.campaign
    return Text(
        plain(
            f"{count(len(campaign.runs), 'run')}: {summary.passed} passed, {summary.failed} failed, "
            f"{summary.inconclusive} inconclusive · {count(campaign.workers, 'worker')} · "
            f"{count(summary.totals.workflows, 'workflow')} · {duration(campaign.seconds)}"
        ),
        style="dim",
    )


def _lost(summary: Summary) -> str:
    """A loss that an asynchronous standby is allowed is told too."""
    lost, runs = summary.totals.acknowledged_lost, sum(run.acknowledged_lost > 0 for run in summary.campaign.runs)
    return f"lost in failovers: {count(lost, 'acknowledgement')} in {count(runs, 'run')}"


def _faults(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("fault", no_wrap=True)
    table.add_column("planned", justify="right")
    table.add_column("fired", justify="right")
    table.add_column("first new checkpoint, p50")
    for kind in summary.kinds:
        shown = cell(kind.first)
        table.add_row(
            Text(plain(kind.kind)),
            str(kind.planned),
            Text(str(kind.fired), style="bold yellow" if kind.fired < kind.planned else ""),
            Text(plain(shown.figure)).append(plain(f"  {shown.basis}"), style="dim"),
        )
    return table


def _show_broken(broken: Broken, console: Console) -> None:
    first = broken.violations[0]
    title = Text().append(plain(f"{broken.invariant} {broken.title}"), style=_STYLES["fail"])
    console.print()
    console.print(title.append(plain(f"  in {count(broken.seeds, 'run')}, first with seed {first.seed}")))
    console.print(Padding(Text(plain(first.message)), (0, 0, 0, 2)))
    if first.shrunk is not None:
        console.print(Text(plain(f"  made smaller: {sizes(first.shrunk)}"), style="dim"), soft_wrap=True)
        for line in (*(f"fault: {fault}" for fault in first.shrunk.faults), *told(first.shrunk)):
            console.print(Text(plain(f"  {line}")), soft_wrap=True)
        console.print(Text(plain(f"  the small run again: {first.shrunk.reproduce}")), soft_wrap=True)


def _list(title: str, lines: tuple[str, ...], console: Console) -> None:
    if not lines:
        return
    console.print()
    console.print(Text(title, style="dim"))
    for line in lines[:_LISTED]:
        console.print(Padding(Text(plain(f"- {line}"), style="dim"), (0, 0, 0, 2)))
    if len(lines) > _LISTED:
        console.print(Padding(Text(f"… and {len(lines) - _LISTED} more in the report", style="dim"), (0, 0, 0, 2)))
