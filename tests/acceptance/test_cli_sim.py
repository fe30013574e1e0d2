"""`duress run --world sim`: the same command in the simulator, where a seed is a run, and nothing is left of it."""

import os
import shlex
import signal
import time
from pathlib import Path

from command_line import duress, start


def left_of(folder: Path) -> list[str]:
    """The command lines of what runs in, or was started for, a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd") == str(folder):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # it has ended, or is another user's
    return found


def test_seeds_pass_and_each_can_be_run_again(tmp_path: Path) -> None:
    faults = "kill-worker,pause-worker,terminate-backend,crash-backend"
    said = duress(
        tmp_path,
        "run",
        "payments",
        "--world",
        "sim",
        "--seeds",
        "4",
        "--jobs",
        "2",
        "--faults",
        faults,
        "--out",
        "one",
        "--json",
    )
    assert said.code == 0, said.err + said.out
    document = said.document
    assert document["verdict"] == "pass" and document["runs"] == 4
    assert document["campaigns"][0]["run_twice"] == 1
    assert sum(count["fired"] for count in document["faults"].values()) >= 4
    again = duress(tmp_path, "replay", "one/seed-2.plan.json", "--json")
    assert again.code == 0, again.err + again.out
    assert [replay["same"] for replay in again.document["replays"]] == [True]


def test_a_violation_is_named_with_the_word_that_shows_it_again(tmp_path: Path) -> None:
    said = duress(
        tmp_path, "run", "payments", "--world", "sim", "--canary", "key-of-the-epoch", "--seeds", "6", "--json"
    )
    assert said.code == 1, said.err + said.out
    violation = said.document["violations"][0]
    assert violation["invariant"] == "S4"
    words = shlex.split(violation["reproduce"])
    assert words[:2] == ["duress", "replay"] and len(words) == 3
    repeated = duress(tmp_path, *words[1:], "--json")
    assert repeated.code == 1
    assert repeated.document["replays"][0]["same"] is True
    assert violation in repeated.document["violations"]


def test_a_server_of_ones_own_is_refused(tmp_path: Path) -> None:
    said = duress(tmp_path, "run", "payments", "--world", "sim", "--dsn", "postgresql://localhost/x")
    assert said.code == 2
    assert "takes no --dsn" in said.err


def test_an_interrupt_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, "run", "payments", "--world", "sim", "--seeds", "500")
    while len(left_of(tmp_path)) < 2:  # the simulating process is there
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    until = time.monotonic() + 2
    while left_of(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert left_of(tmp_path) == []


def test_without_being_asked_it_simulates(tmp_path: Path) -> None:
    said = duress(tmp_path, "run", "payments", "--seed", "1", "--faults", "none", "--json", DURESS_WORLD="")
    assert said.code == 0, said.err + said.out
    assert [campaign["world"] for campaign in said.document["campaigns"]] == ["sim"]
