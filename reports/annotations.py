"""GitHub's annotations: workflow commands on stdout that mark a step. It shows ten errors and ten warnings of one step."""

from collections.abc import Iterator
from typing import Final

from duress.reports.gate.outcome import Gate
from duress.reports.gate.terminal import seen, worst_first
from duress.reports.summary import Summary
from duress.reports.wording import count, plain

MOST: Final = 10  # of each level, in one step
_LONGEST: Final = 1000  # characters of one message


def annotations(summary: Summary, gate: Gate | None = None) -> list[str]:
    """One line each, the worst first; what does not fit is counted in the last one."""
    return [*_limited("error", list(_errors(summary, gate))), *_limited("warning", list(_warnings(summary, gate)))]


def _errors(summary: Summary, gate: Gate | None) -> Iterator[tuple[str, str]]:
    name = summary.campaign.scenario
    for broken in summary.broken:
        first = broken.violations[0]
        yield (
            f"{name}: {broken.invariant} {broken.title} in {plain(count(broken.seeds, 'run'))}",
            f"{first.message}\nreproduce with: {first.reproduce}",
        )
    for failure in summary.campaign.failures:
        yield f"{name}: the harness failed at seed {failure.seed}", failure.message
    for divergence in summary.campaign.divergences:
        yield f"{name}: seed {divergence.seed} could not be repeated", f"{divergence.message}\n{divergence.reproduce}"
    for finding in worst_first(gate) if gate is not None else ():
        if finding.state == "missed":
            yield f"{name}: {finding.limit} was missed", f"wanted {finding.wanted}; {seen(finding)}. {finding.advice}"


def _warnings(summary: Summary, gate: Gate | None) -> Iterator[tuple[str, str]]:
    campaign = summary.campaign
    if campaign.verdict == "inconclusive":
        for reason in campaign.reasons:
            yield f"{campaign.scenario}: inconclusive", reason
    for finding in gate.findings if gate is not None else ():
        if finding.state == "undecided" and finding.limit != "verdict":
            yield f"{campaign.scenario}: {finding.limit} is undecided", f"{seen(finding)}. {finding.advice}"
        elif finding.before is not None:
            yield f"{campaign.scenario}: {finding.limit} was missed at first", seen(finding)


def _limited(level: str, found: list[tuple[str, str]]) -> Iterator[str]:
    shown = found if len(found) <= MOST else found[: MOST - 1]
    for title, message in shown:
        yield f"::{level} title={_property(title)}::{_message(message)}"
    if len(shown) < len(found):
        yield f"::{level} title=duress::and {len(found) - len(shown)} more, in the summary and the report"


def _message(text: str) -> str:
    text = plain(text)
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " …"
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
