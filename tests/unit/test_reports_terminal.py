"""The terminal's and the CI system's view: verdict, broken invariant and one line to paste, whatever the text holds."""

import io
from pathlib import Path

import msgspec
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from rich.console import Console
from synthetic_campaign import INVARIANTS, campaign

from duress.reports.junit import junit
from duress.reports.summary import summarise
from duress.reports.terminal import show
from duress.scenarios.result import Campaign, Run, Violation

LINE = "duress run payments --world procs --seed 7 --plan 'a [bold]folder/seed-7.plan.json'"


def shown(of: Campaign, *, width: int = 80) -> str:
    """What `show` prints to a file."""
    output = io.StringIO()
    show(of, Console(file=output, width=width), report=Path("out/report.html"))
    return output.getvalue()


def inconclusive() -> Campaign:
    """A campaign that proved nothing."""
    run = Run(seed=7, verdict="inconclusive", reasons=("kill-worker never fired",), reproduce=LINE)
    return msgspec.structs.replace(
        campaign(runs=1), verdict="inconclusive", reasons=("1 of 1 runs are inconclusive",), runs=(run,)
    )


def test_a_red_campaign_ends_with_its_line_alone_and_unwrapped() -> None:
    red = campaign(red=True)
    printed = shown(red, width=60).rstrip("\n").split("\n")
    assert printed[0].startswith("✗ fail  payments (canary replay-ignores-last-checkpoint): S2 no-rerun")
    assert printed[-1] == summarise(red).reproduce
    assert len(printed[-1]) > 60
    assert any(line.startswith("pause-worker") and "n = 11" in line for line in shown(red, width=100).split("\n"))


def test_a_green_campaign_has_nothing_to_paste_and_names_its_gaps() -> None:
    printed = shown(campaign(runs=4))
    assert printed.startswith("✓ pass")
    assert "reproduce" not in printed
    assert "failover to a standby" in printed
    assert "report: out/report.html" in printed


def test_an_inconclusive_campaign_says_why_and_is_not_markup() -> None:
    printed = shown(inconclusive())
    assert printed.startswith("? inconclusive")
    assert "- 1 of 1 runs are inconclusive" in printed
    assert printed.endswith(f"{LINE}\n")


def test_junit_has_a_case_per_invariant_and_the_line_in_the_failure() -> None:
    red = campaign(red=True)
    suite = next(iter(JUnitXml.fromstring(junit(summarise(red)))))
    cases = {case.name: case for case in suite}
    assert set(cases) == {f"{key} {title}" for key, title in INVARIANTS.items()} | {"conclusive"}
    assert {name for name, case in cases.items() if case.result} == {"S2 no-rerun", "D1 conserved"}
    failure = cases["S2 no-rerun"].result[0]
    assert isinstance(failure, Failure)
    assert f"reproduce with:\n{summarise(red).reproduce}\n" in (failure.text or "")
    assert (suite.failures, suite.errors, suite.tests) == (2, 0, len(INVARIANTS) + 1)


def test_junit_of_an_inconclusive_campaign_is_not_green() -> None:
    suite = next(iter(JUnitXml.fromstring(junit(summarise(inconclusive())))))
    results = {case.name: case.result for case in suite}
    assert isinstance(results.pop("conclusive")[0], Error)
    assert all(isinstance(result[0], Skipped) for result in results.values())


@pytest.mark.parametrize("text", ["a \x00 b \x1b[31m", "]]> <&\"'", "\ufffe", "[/red] [bold]"])
def test_no_text_breaks_the_views(text: str) -> None:
    violation = Violation(invariant="S9", title=text, seed=1, message=text, reproduce=text)
    run = Run(seed=1, verdict="fail", violations=(violation,))
    broken = msgspec.structs.replace(campaign(runs=1), verdict="fail", scenario=text, runs=(run,), reasons=(text,))
    suite = next(iter(JUnitXml.fromstring(junit(summarise(broken)))))
    assert suite.failures == 1
    assert "\x1b" not in shown(broken)
    if "[" in text and "\x1b" not in text:
        assert text in shown(broken)
