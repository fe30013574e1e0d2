"""A gate's outcome in a terminal: the worst first, then what to do."""

from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from duress.reports.gate.outcome import WORST_FIRST, Finding, Gate, State
from duress.reports.wording import plain
from duress.scenarios.result import Campaign

MARKS: dict[State, str] = {"kept": "✓", "missed": "✗", "violated": "✗", "undecided": "?", "harness failed": "!"}
_STYLES: dict[State, str] = {
    "kept": "green",
    "missed": "bold red",
    "violated": "bold red",
    "undecided": "bold yellow",
    "harness failed": "bold red",
}


def show_gate(gate: Gate, campaign: Campaign, console: Console, *, report: Path) -> None:
    """Print the outcome on `console`; `report` is the page to point to."""
    title = Text().append(f"{MARKS[gate.state]} {headline(gate)}", style=_STYLES[gate.state])
    console.print(title.append(plain(f"  {campaign.scenario} by {gate.limits}")), soft_wrap=True)
    for note in gate.notes:
        console.print(Text(plain(f"note: {note}"), style="dim"), soft_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("", "limit", "wanted", "seen"):
        table.add_column(column, no_wrap=column in ("", "limit"))
    for finding in worst_first(gate):
        mark = Text(f"{MARKS[finding.state]} {finding.state}", style=_STYLES[finding.state])
        table.add_row(mark, plain(finding.limit), Text(plain(finding.wanted)), Text(plain(seen(finding))))
    console.print(table)
    for finding in worst_first(gate):
        if finding.state != "kept" and finding.advice and finding.state != "violated":
            console.print(Padding(Text(plain(f"{finding.limit}: {finding.advice}"), style="dim"), (0, 0, 0, 2)))
    console.print()
    console.print(Text(f"report: {report}"), soft_wrap=True)
    violated = next((finding for finding in gate.findings if finding.state == "violated" and finding.advice), None)
    if violated is not None:
        console.print()
        console.print(Text("reproduce with:"))
        console.print(Text(plain(violated.advice), style="bold"), soft_wrap=True)


def headline(gate: Gate) -> str:
    """The outcome in a few words."""
    counts = {state: sum(finding.state == state for finding in gate.findings) for state in WORST_FIRST}
    if gate.state == "kept":
        retried = sum(finding.before is not None for finding in gate.findings)
        again = f", {retried} of them at the second attempt" if retried else ""
        return f"all {counts['kept']} limits are kept{again}"
    told = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    return f"{gate.state}: {told}"


def worst_first(gate: Gate) -> list[Finding]:
    """The findings by how bad they are, then in the file's order."""
    return sorted(gate.findings, key=lambda finding: WORST_FIRST.index(finding.state))


def seen(finding: Finding) -> str:
    """What was seen, in both attempts if there were two."""
    if finding.before is None:
        return finding.seen
    return f"first attempt {finding.before.state}: {finding.before.seen}; second: {finding.seen}"
