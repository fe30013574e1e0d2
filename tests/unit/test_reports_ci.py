"""What a CI system is given: within its limits, with the line to paste, and with no message that turns into markup."""

from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from junitparser import Error, Failure, JUnitXml
from synthetic_campaign import campaign

from duress.reports import write
from duress.reports.annotations import MOST, annotations
from duress.reports.gate import Finding, Gate, judge, read_limits, save_gate
from duress.reports.junit import junit
from duress.reports.markdown import SUMMARY_LIMIT, markdown
from duress.reports.summary import summarise
from duress.scenarios.result import Campaign, Violation

NASTY = "a|b `c` <img src=x> **d** @everyone https://x.test [e](f) %0A ::error::\n# g"


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    file = tmp_path / "limits.toml"
    file.write_text('[runs]\nminimum = 99\n[recovery.pause-worker.first]\np50 = "1 ms"\np95 = "1 min"\n')
    return judge(campaign(red=True), read_limits(file), limits_name="limits.toml")


def violated(messages: list[str]) -> Campaign:
    """A campaign of one failed run with these violations, each of an invariant of its own."""
    base = campaign(runs=1, red=True)
    violations = tuple(
        Violation(invariant=f"X{place}", title="t", seed=1, message=text, reproduce="duress run x")
        for place, text in enumerate(messages)
    )
    run = msgspec.structs.replace(base.runs[0], verdict="fail", violations=violations)
    return msgspec.structs.replace(base, verdict="fail", runs=(run,))


def test_the_summary_names_verdict_line_gate_and_gaps(gate: Gate) -> None:
    red = summarise(campaign(red=True))
    text = markdown(red, gate)
    assert text.startswith("## ✗ fail: payments under duress")
    assert f"```sh\n{red.reproduce}\n```" in text
    assert "| ✗ missed | recovery.pause-worker.first.p50 | ≤ 1.0 ms |" in text
    assert "| ? undecided | runs.minimum | ≥ 99 |" in text
    assert "failover to a standby" in text
    assert text.index(red.reproduce or "") < text.index("failover to a standby")


def test_no_message_becomes_markup() -> None:
    text = markdown(summarise(violated([NASTY])))
    for raw in ("<img", "**d**", "@everyone", "https://", "[e](f)", "\n# g", "a|b"):
        assert raw not in text, raw
    fenced = violated(["x"])
    broken = msgspec.structs.replace(fenced.runs[0].violations[0], reproduce="echo ```` x")
    run = msgspec.structs.replace(fenced.runs[0], violations=(broken,))
    assert "`````sh\necho ```` x\n`````" in markdown(summarise(msgspec.structs.replace(fenced, runs=(run,))))


def test_the_summary_stays_within_github_s_limit() -> None:
    text = markdown(summarise(violated(["é" * 5000] * 400)))
    assert len(text.encode()) < SUMMARY_LIMIT
    assert "cut here" in text[-120:]
    base = violated(["x"])
    told = msgspec.structs.replace(base.runs[0].violations[0], story=("```` " + "s" * 95,) * 9000)
    run = msgspec.structs.replace(base.runs[0], violations=(told,))
    within = markdown(summarise(msgspec.structs.replace(base, runs=(run,))))
    assert len(within.encode()) < SUMMARY_LIMIT
    assert within.count("\n`````\n") == 2, "a block that was cut is closed, by a fence as long as its own"


def test_annotations_keep_to_github_s_number_and_say_what_is_left_out(gate: Gate) -> None:
    lines = annotations(summarise(violated(["m"] * 25)), gate)
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == MOST and "and 17 more" in errors[-1]
    assert sum(line.startswith("::warning ") for line in lines) <= MOST
    few = [line for line in annotations(summarise(violated(["m"] * 10))) if line.startswith("::error ")]
    assert len(few) == 10 and "more" not in few[-1]


def test_an_annotation_is_one_line_that_cannot_start_another() -> None:
    [line] = [line for line in annotations(summarise(violated([NASTY]))) if line.startswith("::error ")]
    assert "\n" not in line and "%0A# g" in line and "%250A" in line
    assert "duress run x" in line


def test_junit_has_a_case_for_each_limit(gate: Gate) -> None:
    document = JUnitXml.fromstring(junit(summarise(campaign(red=True)), gate))
    results = {case.name: case.result for suite in document for case in suite if case.classname.endswith(".gate")}
    assert isinstance(results["recovery.pause-worker.first.p50"][0], Failure)
    assert isinstance(results["runs.minimum"][0], Error)
    assert "wanted ≤ 1.0 ms" in results["recovery.pause-worker.first.p50"][0].message
    assert not any(name.startswith("invariants") for name in results), "they have cases of their own"


def test_what_a_gate_found_is_in_the_report_of_its_folder(tmp_path: Path, gate: Gate) -> None:
    save_gate(gate, tmp_path)
    write(campaign(red=True), tmp_path, baseline=campaign(seed=2))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "recovery.pause-worker.first.p50" in page and "Gate: violated" in page
    assert page.index("What broke") < page.index("Gate: violated") < page.index("What was run")
    assert "baseline p50" in page, "the baseline is told to who cannot see it drawn"
    (tmp_path / "gate.json").write_bytes(msgspec.json.encode({"version": 99}))
    write(campaign(red=True), tmp_path)
    assert "Gate: violated" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_findings_survive_the_disk(tmp_path: Path, gate: Gate) -> None:
    assert msgspec.json.decode(save_gate(gate, tmp_path).read_bytes(), type=Gate) == gate
    assert all(isinstance(finding, Finding) for finding in gate.findings)


def test_junit_says_of_all_suites_what_the_schema_lets_it_say() -> None:
    """junit-10.xsd, which Jenkins publishes: https://github.com/jenkinsci/xunit-plugin"""
    root = ElementTree.fromstring(junit(summarise(campaign(runs=3))))
    assert set(root.attrib) <= {"name", "time", "tests", "failures", "disabled", "errors"}
    [suite] = root
    assert root.get("tests") == suite.get("tests") == str(len(suite.findall("testcase")))
    assert root.get("failures") == suite.get("failures") and int(root.get("errors", "-1")) >= 0
