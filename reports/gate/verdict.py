"""What all limits together say. A violated invariant stays violated, however often a campaign is tried again."""

import msgspec

from duress.reports.gate.checks import findings
from duress.reports.gate.compare import compared
from duress.reports.gate.limits import Limits
from duress.reports.gate.outcome import WORST_FIRST, Attempt, Finding, Gate
from duress.reports.summary import Summary, summarise
from duress.scenarios.result import Campaign

_SAME = ("scenario", "world", "workers")


class NotComparable(ValueError):
    """A baseline, or a second attempt, of something else; the message says in what they differ."""


def judge(
    campaign: Campaign,
    limits: Limits,
    *,
    limits_name: str,
    baseline: Campaign | None = None,
    baseline_name: str | None = None,
    again: Campaign | None = None,
) -> Gate:
    """The findings of a campaign; `again` is a second attempt, which only timing limits may use. Raises NotComparable."""
    then = summarise(baseline) if baseline is not None else None
    if baseline is not None:
        _comparable(campaign, baseline, limits.baseline.settings_may_differ)
    found = _findings(summarise(campaign), limits, then)
    if again is not None:
        if again.canary != campaign.canary or again.build != campaign.build:
            raise NotComparable("a second attempt must be of the same build and canary as the first")
        _comparable(campaign, again, ())
        found = _second(found, _findings(summarise(again), limits, then))
    state = min((finding.state for finding in found), key=WORST_FIRST.index)
    return Gate(
        state=state,
        limits=limits_name,
        baseline=baseline_name,
        findings=tuple(found),
        notes=() if baseline is None else _notes(campaign, baseline),
    )


def _findings(summary: Summary, limits: Limits, then: Summary | None) -> list[Finding]:
    found = list(findings(summary, limits))
    return found if then is None else [*found, *compared(summary, then, limits.baseline)]


def _second(first: list[Finding], second: list[Finding]) -> list[Finding]:
    """Timing limits as the second attempt has them, both visible; of the rest the worse of the two."""
    later = {finding.limit: finding for finding in second}
    found = []
    for finding in first:
        other = later.pop(finding.limit, None)
        if other is None:
            found.append(finding)
        elif finding.sort == "timing" and finding.state == "missed":
            found.append(msgspec.structs.replace(other, before=Attempt(state=finding.state, seen=finding.seen)))
        else:
            found.append(min((finding, other), key=lambda one: WORST_FIRST.index(one.state)))
    # What only the second attempt has: a violation, or a failure of the harness.
    return [*(finding for finding in later.values() if finding.sort != "timing"), *found]


def _comparable(campaign: Campaign, other: Campaign, may_differ: tuple[str, ...]) -> None:
    differences = [
        f"{name} is {getattr(campaign, name)!r} here and {getattr(other, name)!r} there"
        for name in _SAME
        if getattr(campaign, name) != getattr(other, name)
    ]
    no_matter = (
        {"jobs"} if campaign.world == "sim" else set()
    )  # virtual time does not care how many runs share a machine
    names = (campaign.settings.keys() | other.settings.keys()) - no_matter - set(may_differ)
    differing = [name for name in sorted(names) if campaign.settings.get(name) != other.settings.get(name)]
    differences += [
        f"{name} is {campaign.settings.get(name)} here and {other.settings.get(name)} there" for name in differing
    ]
    if differences:
        hint = f" If that is meant: [baseline] settings-may-differ = {differing}." if differing else ""
        raise NotComparable(f"the two campaigns are not of the same thing: {'; '.join(differences)}.{hint}")


def _notes(campaign: Campaign, baseline: Campaign) -> tuple[str, ...]:
    notes = []
    if campaign.build and campaign.build == baseline.build:
        notes.append("the baseline is of the same build")
    if campaign.world != "sim" and campaign.machine != baseline.machine:
        notes.append(
            f"another machine: {campaign.machine} here, {baseline.machine} in the baseline; times may differ for that"
        )
    if campaign.postgres != baseline.postgres:
        notes.append(f"another PostgreSQL: {campaign.postgres} here, {baseline.postgres} in the baseline")
    return tuple(notes)
