"""The campaign as Markdown, short enough for the summary of a CI step (GitHub takes 1 MiB): verdict, gate, what broke with its
line to paste, recovery, gaps."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from duress.reports.gate.outcome import Gate
from duress.reports.gate.terminal import MARKS as GATE_MARKS
from duress.reports.gate.terminal import headline as gate_headline
from duress.reports.gate.terminal import seen, worst_first
from duress.reports.page import MARKS, cell, headline, rate, tail
from duress.reports.shrunk import sizes, told
from duress.reports.summary import Summary, determinism, gaps, whose_clock
from duress.reports.wording import count, duration, plain

SUMMARY_LIMIT: Final = 1024 * 1024  # bytes, of one step's summary; GitHub drops all of it when it is longer
_ROOM: Final = SUMMARY_LIMIT // 2  # a step may write more than one
_LISTED: Final = 10  # violations of an invariant, gaps, reasons
_LONGEST: Final = 2000  # characters of one message


def markdown(summary: Summary, gate: Gate | None = None) -> str:
    """The text; cut at the end of a line, and saying so, should it ever be too long."""
    return _cut("\n".join(_lines(summary, gate)) + "\n")


def _lines(summary: Summary, gate: Gate | None) -> Iterator[str]:
    campaign = summary.campaign
    yield f"## {MARKS[campaign.verdict]} {campaign.verdict}: {_text(campaign.scenario)} under duress"
    yield ""
    yield f"{_text(headline(summary))}." + (f" Canary: {_text(campaign.canary)}." if campaign.canary else "")
    yield ""
    yield (
        f"{count(len(campaign.runs), 'run')} in {_text(campaign.world)}: {summary.passed} passed, {summary.failed} failed, "
        f"{summary.inconclusive} inconclusive · {summary.fired} of {summary.planned} planned faults fired · "
        f"{duration(campaign.seconds)}"
    )
    if gate is not None:
        yield from _gate(gate)
    yield from _broken(summary)
    for divergence in campaign.divergences[:_LISTED]:
        yield from ("", f"### Seed {divergence.seed} could not be repeated", "", _text(divergence.message))
        yield from _code(divergence.reproduce)
    if campaign.verdict != "pass" and not summary.broken:
        yield from ("", "### Why", "", *(f"- {_text(reason)}" for reason in campaign.reasons[:_LISTED]))
        if summary.reproduce is not None:
            yield from _code(summary.reproduce)
    yield from _recovery(summary)
    yield from _gaps(summary)


def _gate(gate: Gate) -> Iterator[str]:
    yield from ("", f"### Gate: {_text(gate_headline(gate))}", "")
    yield from ("| | limit | wanted | seen |", "| --- | --- | --- | --- |")
    for finding in worst_first(gate):
        mark = f"{GATE_MARKS[finding.state]} {finding.state}"
        yield f"| {mark} | {_text(finding.limit)} | {_text(finding.wanted)} | {_text(seen(finding))} |"
    if gate.notes:
        yield from ("", *(f"- {_text(note)}" for note in gate.notes))


def _broken(summary: Summary) -> Iterator[str]:
    for broken in summary.broken:
        first = broken.violations[0]
        yield from ("", f"### {broken.invariant} {_text(broken.title)}: {count(broken.seeds, 'run')}", "")
        yield from (_text(first.message), "", f"Paste to see it again (seed {first.seed}):")
        yield from _code(first.reproduce)
        if first.shrunk is not None:
            yield from ("", _text(f"Made smaller: {sizes(first.shrunk)}. It is run again by:"))
            yield from _code(first.shrunk.reproduce)
            yield from ("", "<details><summary>What happens in the small run</summary>")
            yield from _code("\n".join(told(first.shrunk)))
            yield from ("", "</details>")
        elif first.story:
            yield from ("", "<details><summary>What happened to it</summary>")
            yield from _code("\n".join(first.story))
            yield from ("", "</details>")
        others = broken.violations[1 : _LISTED + 1]
        if others:
            left = len(broken.violations) - 1 - len(others)
            yield from ("", f"<details><summary>{count(len(broken.violations) - 1, 'more violation')}</summary>", "")
            yield from (f"- seed {found.seed}: {_text(found.message)}" for found in others)
            if left:
                yield f"- … and {left} more in result.json"
            yield from ("", "</details>")


def _recovery(summary: Summary) -> Iterator[str]:
    if not summary.kinds:
        return
    yield from ("", "### Recovery: first new checkpoint after a fault", "")
    yield from ("| fault | fired | p50 | p95 | p99 |", "| --- | ---: | --- | --- | --- |")
    for kind in summary.kinds:
        shown = cell(kind.first)
        p95, p99 = tail(kind.first, 0.95), tail(kind.first, 0.99)
        p50 = f"{shown.figure} ({shown.basis})"
        yield f"| {_text(kind.kind)} | {kind.fired} of {kind.planned} | {_text(p50)} | {_text(p95)} | {_text(p99)} |"
    if (clock := whose_clock(summary.campaign)) is not None:
        yield from ("", f"{_text(clock)}.")


def _gaps(summary: Summary) -> Iterator[str]:
    found = gaps(summary.campaign, summary)
    yield from ("", f"<details><summary>Not covered: {count(len(found), 'gap')}</summary>", "")
    yield from (f"- {_text(gap)}" for gap in found)
    yield from ("", "</details>", "", f"{_text(rate(summary))}.")
    if (repeated := determinism(summary.campaign)) is not None:
        yield f"{_text(repeated)}."


def _text(text: str) -> str:
    """Text on one line that cannot become markup, a mention or a link."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]|#~$])", r"\\\1", text).replace("@", "@\u200b").replace("://", ":\u200b//")
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip("\\") + " …"


def _code(text: str) -> Sequence[str]:
    """A block with a fence longer than any in the text."""
    text = plain(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return ("", f"{fence}sh" if "\n" not in text else fence, text, fence)


def _cut(text: str) -> str:
    if len(text.encode()) <= _ROOM:
        return text
    kept = text.encode()[: _ROOM - 200].decode(errors="ignore").rpartition("\n")[0]
    fences = re.findall(r"^(`{3,})(?:sh)?$", kept, flags=re.MULTILINE)
    if len(fences) % 2:  # cut within a block
        kept += f"\n{fences[-1]}"
    return f"{kept}\n\n… cut here: the rest is in report.html and result.json\n"
