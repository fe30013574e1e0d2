"""`duress report`: shards put together are the whole, and a campaign that was killed is readable all the same."""

import json
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import LIMIT, ROOT, duress, start
from conftest import Campaigns

from duress.reports import load, schema
from duress.scenarios.stream import STREAM_FILE


def test_shards_put_together_are_the_whole(tmp_path: Path, campaigns: Campaigns) -> None:
    first, second = campaigns("green-1"), campaigns("green-2")
    assert [run.seed for run in load(first).runs] == [1, 3, 5, 7, 9, 11]
    said = duress(tmp_path, "report", str(second), str(first), "--out", "whole")
    assert said.code == 0, said.err + said.out
    whole = load(tmp_path / "whole")
    assert [run.seed for run in whole.runs] == list(range(1, 13))
    assert whole.shards == ("1/2", "2/2") and whole.wanted == 12 and whole.verdict == "pass"
    assert not any("shard" in reason for reason in whole.reasons)
    assert {"report.html", "junit.xml", "seed-1.plan.json", "seed-2.plan.json"} <= names(tmp_path / "whole")


def test_one_shard_alone_says_that_it_is_not_the_whole(tmp_path: Path, campaigns: Campaigns) -> None:
    said = duress(tmp_path, "report", str(campaigns("green-1")), "--out", "part")
    assert said.code == 0, said.err + said.out
    assert "shard 2/2" in (tmp_path / "part" / "report.html").read_text()


def test_a_seed_that_was_run_twice_is_named(tmp_path: Path, campaigns: Campaigns) -> None:
    again = shutil.copytree(campaigns("green-1"), tmp_path / "again")
    said = duress(tmp_path, "report", str(campaigns("green-1")), str(again))
    assert said.code == 2
    assert "seed 1, 3, 5, 7, 9 and 1 more was run more than once" in said.err and "again" in said.err


def test_another_build_or_canary_is_no_shard_of_it(tmp_path: Path, campaigns: Campaigns) -> None:
    said = duress(tmp_path, "report", str(campaigns("green-1")), str(campaigns("red")))
    assert said.code == 2
    assert "canary is None here and 'key-of-the-epoch' there" in said.err
    other = shutil.copytree(campaigns("green-2"), tmp_path / "other")
    document = json.loads((other / "result.json").read_text())
    (other / "result.json").write_text(json.dumps({**document, "build": "0" * 12}))
    said = duress(tmp_path, "report", str(campaigns("green-1")), str(other))
    assert said.code == 2 and "build is" in said.err


def test_the_line_to_paste_names_the_plan_where_it_is_now(tmp_path: Path, campaigns: Campaigns) -> None:
    said = duress(tmp_path, "report", str(campaigns("procs")), "--out", "moved")
    assert said.code == 0, said.err + said.out
    for run in load(tmp_path / "moved").runs:
        words = shlex.split(run.reproduce)
        assert (tmp_path / words[words.index("--plan") + 1]).is_file(), run.reproduce


def test_the_schema_is_published_and_current() -> None:
    """`duress report --schema > docs/result.schema.json` makes it so."""
    assert (ROOT / "docs" / "result.schema.json").read_bytes() == schema()


def test_a_campaign_that_is_killed_is_readable_as_far_as_it_went(tmp_path: Path) -> None:
    harness = start(tmp_path, "run", "payments", "--world", "sim", "--seeds", "500", "--out", "out")
    try:
        wait_for_runs(tmp_path / "out", 2)
        harness.kill()
    finally:
        harness.communicate(timeout=LIMIT)
    said = duress(tmp_path, "report", "out")
    assert said.code == 4, said.err + said.out
    campaign = load(tmp_path / "out")
    assert len(campaign.runs) >= 2 and campaign.wanted == 500
    assert f"{len(campaign.runs)} of 500 runs were made" in said.out
    assert (tmp_path / "out" / "report.html").is_file()
    with (tmp_path / "out" / STREAM_FILE).open("ab") as stream:
        stream.write(b'{"seed": 9, "verd')  # as if it had been killed in the middle of a line
    assert len(load(tmp_path / "out").runs) == len(campaign.runs)


def test_ctrl_c_finishes_what_runs_and_writes_the_report(tmp_path: Path) -> None:
    harness = start(tmp_path, "run", "payments", "--world", "sim", "--seeds", "500", "--out", "out", "--json")
    try:
        wait_for_runs(tmp_path / "out", 1)
        harness.send_signal(signal.SIGINT)
        out, err = harness.communicate(timeout=LIMIT)
    finally:
        harness.kill()
    assert harness.returncode == 130, err
    assert "Ctrl-C again stops at once" in err and "Traceback" not in err
    document: Any = json.loads(out)
    assert 1 <= document["runs"] < 500
    assert "of 500 runs were made" in document["reasons"][0]
    assert len(load(tmp_path / "out").runs) == document["runs"]
    assert (tmp_path / "out" / "report.html").is_file()
    assert not (tmp_path / "out" / STREAM_FILE).exists()


def test_a_second_ctrl_c_stops_at_once_and_says_how_to_see_what_there_is(tmp_path: Path) -> None:
    plan = {
        "events": [{"trigger": {"at": "point", "point": "worker.left"}, "fault": {"kind": "kill-worker"}, "worker": 0}]
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))  # it never comes: the run goes on for its 60 seconds
    command = ("run", "payments", "--seed", "1", "--plan", "plan.json", "--max-time", "60", "--out", "out")
    harness = start(tmp_path, *command)
    try:
        wait_for((tmp_path / "out" / STREAM_FILE).exists)
        harness.send_signal(signal.SIGINT)
        assert harness.stderr is not None
        assert "again" in harness.stderr.readline()
        harness.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, err = harness.communicate(timeout=LIMIT)
    finally:
        harness.kill()
    assert harness.returncode == 130
    assert time.monotonic() - began < 30, "it did not wait for the run"
    assert "duress report out" in err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--shard", "3/2"), "no shard"),
        (("--shard", "two"), "no shard"),
        (("--shard", "1/2", "--seed", "4"), "--seed is one run"),
        (("--seeds-from", " "), "--seeds-from is empty"),
    ],
)
def test_a_wrong_part_is_refused_by_name(tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    said = duress(tmp_path, "run", "payments", *words)
    assert said.code == 2 and complaint in said.err


def test_a_shard_without_seeds_selects_nothing(tmp_path: Path) -> None:
    assert duress(tmp_path, "run", "payments", "--seeds", "2", "--shard", "3/3").code == 5


def wait_for_runs(folder: Path, count: int) -> None:
    file = folder / STREAM_FILE
    wait_for(lambda: file.exists() and file.read_bytes().count(b"\n") > count)


def wait_for(event: Any) -> None:
    deadline = time.monotonic() + LIMIT
    while not event():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
