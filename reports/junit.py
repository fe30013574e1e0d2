"""The campaign as JUnit XML: a case per scenario and invariant, so that a CI system shows which promise was broken.

A failure's text holds every violation and the lines that reproduce them. An inconclusive campaign is an error, not a
pass.
"""

import io

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from duress.reports import shrunk
from duress.reports.gate.outcome import Finding, Gate
from duress.reports.gate.terminal import seen
from duress.reports.summary import Broken, Summary, determinism
from duress.reports.wording import count, moment, plain
from duress.scenarios.result import Campaign

_LISTED = 20  # violations in one failure's text; the rest is in result.json


def junit(summary: Summary, gate: Gate | None = None) -> bytes:
    """The XML document; with a case for each limit where a gate has judged."""
    campaign = summary.campaign
    broken = {found.invariant: found for found in summary.broken}
    titles = {found.invariant: found.title for found in summary.broken} | campaign.invariants
    suite = TestSuite(plain(f"{campaign.scenario} ({campaign.world})"))
    for key, value in _properties(campaign).items():
        suite.add_property(key, plain(value))
    for invariant, title in sorted(titles.items()):
        case = TestCase(plain(f"{invariant} {title}"), classname=_classname(campaign))
        if invariant in broken:
            case.result = [_failure(broken[invariant])]
        elif not summary.passed + summary.failed:
            case.result = [Skipped(message="no run was judged")]
        suite.add_testcase(case)
    suite.add_testcase(_conclusive(summary))
    for finding in gate.findings if gate is not None else ():
        if finding.sort == "timing" or finding.limit.startswith(("coverage", "runs")):  # the others have cases already
            suite.add_testcase(_limit(campaign, finding))
    if (repeated := determinism(campaign)) is not None:
        suite.add_testcase(_deterministic(campaign, repeated))
    document = JUnitXml("duress")
    document.add_testsuite(suite)
    suite.update_statistics()  # type: ignore[no-untyped-call]
    # Not its own update_statistics(): Jenkins's schema (junit-10.xsd) knows `skipped` of a suite, and not of all of them.
    document.tests, document.failures, document.errors, document.time = (
        suite.tests,
        suite.failures,
        suite.errors,
        suite.time,
    )
    buffer = io.BytesIO()
    document.write(buffer, pretty=True)
    return buffer.getvalue()


def _classname(campaign: Campaign) -> str:
    return plain(f"duress.{campaign.scenario}.{campaign.world}")


def _limit(campaign: Campaign, finding: Finding) -> TestCase:
    """A limit that is not kept: a failure if it was missed, an error if nothing can be said."""
    case = TestCase(plain(finding.limit), classname=f"{_classname(campaign)}.gate")
    told = plain(f"wanted {finding.wanted}; {seen(finding)}. {finding.advice}")
    if finding.state == "missed":
        case.result = [Failure(message=told, type_="missed")]
    elif finding.state != "kept":
        case.result = [Error(message=told, type_=finding.state)]
    return case


def _properties(campaign: Campaign) -> dict[str, str]:
    return {
        "started": moment(campaign.started_at),
        "duress": campaign.duress,
        "python": campaign.python,
        "postgres": campaign.postgres,
        "machine": campaign.machine,
        "workers": str(campaign.workers),
        "canary": campaign.canary or "none",
        **{f"token of seed {run.seed}": run.token for run in campaign.runs if run.token and run.verdict != "pass"},
    }


def _deterministic(campaign: Campaign, repeated: str) -> TestCase:
    """An error, not a failure: the harness cannot be trusted, which says nothing about what it tests."""
    case = TestCase("deterministic", classname=_classname(campaign))
    if campaign.divergences:
        error = Error(message=plain(repeated), type_="diverged")
        error.text = plain(
            "\n".join(f"seed {one.seed}: {one.message}\n    {one.reproduce}" for one in campaign.divergences[:_LISTED])
        )
        case.result = [error]
    return case


def _failure(broken: Broken) -> Failure:
    first = broken.violations[0]
    message = plain(f"{count(len(broken.violations), 'violation')} in {count(broken.seeds, 'run')}; {first.message}")
    failure = Failure(message=message, type_=plain(broken.invariant))
    lines = [f"reproduce with:\n{first.reproduce}\n"]
    if first.shrunk is not None:
        lines += ["made smaller:", *shrunk.lines(first.shrunk), ""]
    elif first.story:
        lines += ["what happened to it:", *first.story, ""]
    lines += [f"seed {found.seed}: {found.message}\n    {found.reproduce}" for found in broken.violations[:_LISTED]]
    if len(broken.violations) > _LISTED:
        lines.append(f"… and {len(broken.violations) - _LISTED} more in result.json")
    failure.text = plain("\n".join(lines))
    return failure


def _conclusive(summary: Summary) -> TestCase:
    """Without this case an inconclusive campaign would look green."""
    campaign = summary.campaign
    case = TestCase("conclusive", classname=_classname(campaign), time=round(campaign.seconds, 3))
    reasons = "; ".join(campaign.reasons)
    if campaign.verdict == "inconclusive":
        error = Error(message=plain(reasons or "inconclusive"), type_="inconclusive")
        error.text = plain(f"{reasons}\n{summary.reproduce or ''}")
        case.result = [error]
    elif campaign.verdict == "fail" and not summary.broken:
        failure = Failure(message=plain(reasons or "failed without a recorded violation"), type_="fail")
        failure.text = plain(f"{reasons}\n{summary.reproduce or ''}")
        case.result = [failure]
    return case
