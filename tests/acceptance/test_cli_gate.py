"""`duress gate`, on what real runs left: each exit code, and that nothing unsafe is tried away."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import duress
from conftest import Campaigns

LOOSE = """
[runs]
minimum = 6
[invariants]
checked = ["S2", "S4", "F1"]
[coverage]
kinds = ["kill-worker"]
fired = 3
[recovery.kill-worker.first]
p50 = "5 s"
[progress]
longest-window = "10 s"
[waste]
reruns-per-fault = 50.0
[baseline]
phases = ["first"]
"""


def limits(folder: Path, text: str = LOOSE) -> str:
    (folder / "limits.toml").write_text(text)
    return "limits.toml"


def changed(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a real result in which something is different."""
    shutil.copytree(source, target)
    document = json.loads((target / "result.json").read_text())
    change(document)
    (target / "result.json").write_text(json.dumps(document))
    return target


def slower(factor: float, document: dict[str, Any]) -> None:
    for run in document["runs"]:
        for fault in run["faults"]:
            if (first := fault["recovery"].get("first")) is not None:
                fault["recovery"]["first"] = first * factor


def test_0_all_limits_are_kept(tmp_path: Path, campaigns: Campaigns) -> None:
    said = duress(tmp_path, "gate", str(campaigns("green-1")), "--limits", limits(tmp_path))
    assert said.code == 0, said.err + said.out
    assert said.out.startswith("✓ all 7 limits are kept") and "coverage.kill-worker" in said.out
    document = json.loads((campaigns("green-1") / "gate.json").read_text())
    assert document["state"] == "kept"
    assert [finding["limit"] for finding in document["findings"]] == [
        *("invariants", "runs.minimum", "invariants.checked", "coverage.kill-worker"),
        *("recovery.kill-worker.first.p50", "progress.longest-window", "waste.reruns-per-fault"),
    ]


def test_1_a_violation_counts_before_all_else_and_is_never_tried_away(tmp_path: Path, campaigns: Campaigns) -> None:
    red = campaigns("red")
    strict = limits(tmp_path, LOOSE.replace('"5 s"', '"1 ms"'))
    said = duress(tmp_path, "gate", str(red), "--limits", strict)
    assert said.code == 1, said.err + said.out
    assert "invariants.S4" in said.out
    line = said.out.rstrip().splitlines()[-1]
    assert line.startswith("duress ") and line in (red / "result.json").read_text()

    def washed(document: dict[str, Any]) -> None:
        document["runs"] = [run for run in document["runs"] if run["verdict"] == "pass"]
        document["verdict"], document["reasons"] = "pass", []

    clean = changed(red, tmp_path / "clean", washed)
    for first, second in ((red, clean), (clean, red)):
        again = duress(tmp_path, "gate", str(first), "--limits", limits(tmp_path), "--again", str(second))
        assert again.code == 1, again.out
        assert "invariants.S4" in again.out
    assert duress(tmp_path, "gate", str(red), "--limits", limits(tmp_path), "--retry-timing").code == 1
    assert not (red / "again").exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[recovery.kill-worker.frist]\np50 = 1", "recovery.kill-worker.frist is not known; did you mean 'first'?"),
        ("[recovery.kill-wroker.first]\np50 = 1", "did you mean 'kill-worker'?"),
        ("[recovery.all.first]\np500 = 1", "did you mean 'p50'?"),
        ('[recovery.all.first]\np50 = "fast"', "must be a duration like"),
        ("[run]\nminimum = 3", "run is not known; did you mean 'runs'?"),
        ("[runs]\nminimum = -3", "runs.minimum must be a whole number from 0, not -3"),
        ('[invariants]\nchecked = ["S22"]', "did you mean 'S2'?"),
        ("[runs\n", "is not TOML"),
    ],
)
def test_2_a_limit_that_cannot_be_meant_is_named(
    tmp_path: Path, campaigns: Campaigns, text: str, complaint: str
) -> None:
    said = duress(tmp_path, "gate", str(campaigns("green-1")), "--limits", limits(tmp_path, text))
    assert said.code == 2 and complaint in said.err, said.err


def test_2_a_baseline_of_something_else_is_refused(tmp_path: Path, campaigns: Campaigns) -> None:
    command = ("gate", str(campaigns("green-1")), "--limits", limits(tmp_path), "--baseline")
    said = duress(tmp_path, *command, str(campaigns("procs")))
    assert said.code == 2 and "world is 'sim' here and 'procs' there" in said.err
    said = duress(tmp_path, *command, "nowhere")
    assert said.code == 2 and "cannot read a result at nowhere" in said.err


HALF = '''
"""Payments without the table that D1 is judged by: the harness cannot judge."""
from dataclasses import replace
from duress.scenarios.library import payments as original

scenario = replace(original.payments, name="half", tables={})
'''


def test_3_where_the_harness_failed_nothing_is_proved(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(HALF)
    command = ("run", "half:scenario", "--seed", "1", "--faults", "none", "--workers", "1", "--set", "transfers=6")
    ran = duress(tmp_path, *command, "--out", "half")
    assert ran.code == 3, ran.err
    said = duress(tmp_path, "gate", "half", "--limits", limits(tmp_path, "[runs]\nminimum = 0"))
    assert said.code == 3, said.out
    assert "MissingTable" in said.out
    assert duress(tmp_path, "report", "half").code == 3


def test_4_too_few_recoveries_are_undecided(tmp_path: Path, campaigns: Campaigns) -> None:
    tail = LOOSE.replace('p50 = "5 s"', 'p50 = "5 s"\np95 = "5 s"\np99 = "5 s"').replace("minimum = 6", "minimum = 60")
    said = duress(tmp_path, "gate", str(campaigns("green-1")), "--limits", limits(tmp_path, tail), "--json")
    assert said.code == 4, said.err + said.out
    states = {finding["limit"]: finding for finding in said.document["findings"]}
    assert states["recovery.kill-worker.first.p50"]["state"] == "kept"
    for quantile, needed in (("p95", 59), ("p99", 299)):
        finding = states[f"recovery.kill-worker.first.{quantile}"]
        assert finding["state"] == "undecided" and f"of {needed}" in finding["seen"]
    assert states["runs.minimum"]["state"] == "undecided"
    assert said.err == ""


def test_6_a_limit_that_is_missed_by_more_than_chance(tmp_path: Path, campaigns: Campaigns) -> None:
    strict = limits(tmp_path, LOOSE.replace('"5 s"', '"0.1 ms"'))
    said = duress(tmp_path, "gate", str(campaigns("green-1")), "--limits", strict)
    assert said.code == 6, said.err + said.out
    assert "✗ missed" in said.out and "at least" in said.out


def test_6_slower_than_the_baseline(tmp_path: Path, campaigns: Campaigns) -> None:
    """The other half of the seeds is no regression; the same recoveries five times as long are one."""
    command = ("--limits", limits(tmp_path), "--baseline", str(campaigns("green-2")), "--json")
    same = duress(tmp_path, "gate", str(campaigns("green-1")), *command)
    assert same.code == 0, same.out
    late = changed(campaigns("green-1"), tmp_path / "late", lambda document: slower(5.0, document))
    said = duress(tmp_path, "gate", str(late), *command)
    assert said.code == 6, said.out
    [missed] = [finding for finding in said.document["findings"] if finding["state"] == "missed"]
    assert missed["limit"] == "baseline.kill-worker.first" and "slower; p = " in missed["seen"]


def test_a_timing_limit_is_tried_once_more_and_both_attempts_stay_visible(tmp_path: Path, campaigns: Campaigns) -> None:
    late = changed(campaigns("green-1"), tmp_path / "late", lambda document: slower(1000.0, document))
    said = duress(tmp_path, "gate", str(late), "--limits", limits(tmp_path), "--retry-timing", "--json")
    assert said.code == 0, said.err + said.out
    assert "trying once more" in said.err
    [retried] = [finding for finding in said.document["findings"] if finding["before"]]
    assert retried["state"] == "kept" and retried["before"]["state"] == "missed"
    assert "at least" in retried["before"]["seen"] and "at most" in retried["seen"]
    shown = duress(tmp_path, "gate", str(late), "--limits", limits(tmp_path), "--again", str(late / "again"))
    assert shown.code == 0 and "1 of them at the second attempt" in shown.out and "first attempt missed" in shown.out
