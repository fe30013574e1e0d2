"""`duress run` kills real workers while they move money, judges what happened, and leaves nothing running."""

import json
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import LIMIT, duress, start

from duress.faults.postgres import Server


def at_point(point: str, kind: str = "kill-worker", worker: int | None = None, **trigger: Any) -> dict[str, Any]:
    return {"trigger": {"at": "point", "point": point, **trigger}, "fault": {"kind": kind}, "worker": worker}


def write_plan(folder: Path, *events: dict[str, Any]) -> str:
    (folder / "plan.json").write_text(json.dumps({"events": events}))
    return "plan.json"


SMALL = ("--set", "transfers=12", "--set", "lanes=6")


def test_a_run_with_a_plan_passes_and_leaves_result_plan_and_report(tmp_path: Path) -> None:
    """The worker dies after the gateway was charged and before the checkpoint: nothing may happen twice."""
    plan = write_plan(
        tmp_path,
        at_point("step.checkpointing", step="charge"),
        at_point("step.committing", "terminate-backend", step="debit", occurrence=2),
    )
    said = duress(tmp_path, "run", "payments", "--seed", "3", "--plan", plan, "--workers", "3", "--json", *SMALL)
    assert said.code == 0, said.err + said.out
    assert said.err == "", "stderr is not a terminal: no progress"
    document = said.document
    assert document["verdict"] == "pass" and document["violations"] == [] and document["runs"] == 1
    assert document["faults"] == {
        "kill-worker": {"planned": 1, "fired": 1},
        "terminate-backend": {"planned": 1, "fired": 1},
    }
    [campaign] = document["campaigns"]
    assert campaign["attempts_without_checkpoint"] >= 1, "the receiver saw the charge of the killed worker"
    assert campaign["bodies_rerun"] >= 1
    assert campaign["lost_in_transaction"] >= 1
    out = (tmp_path / campaign["result"]).parent
    assert out.parent == tmp_path / ".duress" and out.name.endswith("-payments")
    result = json.loads((out / "result.json").read_text())
    [run] = result["runs"]
    assert run["workflows"] >= 12 and run["checkpoints"] > 2 * 12
    assert json.loads((out / run["plan"]).read_text())["events"][0]["trigger"]["step"] == "charge"
    assert (tmp_path / campaign["report"]).is_file()


def test_the_verdict_is_printed_for_people_and_the_report_can_be_shown_again(tmp_path: Path) -> None:
    said = duress(tmp_path, "run", "payments", "--seed", "1", "--faults", "none", "--workers", "1", *SMALL)
    assert said.code == 0, said.err + said.out
    assert "pass" in said.out and "report: .duress/" in said.out
    [out] = [folder for folder in (tmp_path / ".duress").iterdir() if folder.name.endswith("-payments")]
    again = duress(tmp_path, "report", str(out))
    assert again.code == 0 and "pass" in again.out
    assert duress(tmp_path, "report", str(tmp_path)).code == 2


def test_a_fault_that_never_fires_makes_the_run_inconclusive(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, at_point("worker.left", worker=0), at_point("workflow.claimed", worker=1))
    command = ("run", "payments", "--seed", "1", "--plan", plan, "--workers", "2", "--max-time", "1.5", *SMALL)
    said = duress(tmp_path, *command, "--json")
    assert said.code == 4, said.err + said.out
    assert said.document["verdict"] == "inconclusive"
    assert "its trigger never came" in said.document["reasons"][0]
    assert said.document["faults"] == {"kill-worker": {"planned": 2, "fired": 1}}


LYING = '''
"""Payments whose ledger is not what the accounts say: somebody takes a cent."""
from dataclasses import replace
from duress.scenarios.library import payments as original

async def setup(connection):
    await original.setup(connection)
    await connection.execute("update account set balance = balance - 1 where id = 'account-3'")

scenario = replace(original.payments, name="lying", setup=setup)
'''


def test_a_violation_exits_1_and_ends_with_the_line_that_repeats_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(LYING)
    said = duress(tmp_path, "run", "mine:scenario", "--seed", "5", "--faults", "none", "--workers", "2", *SMALL)
    assert said.code == 1, said.err + said.out
    assert "D1" in said.out
    line = said.out.rstrip().splitlines()[-1]
    program, *words = shlex.split(line)
    assert program == "duress" and words[:2] == ["run", "mine:scenario"] and "--plan" in words and "5" in words
    again = duress(tmp_path, *words, "--json")
    assert again.code == 1, again.err
    assert again.document["verdict"] == "fail"
    assert {violation["invariant"] for violation in again.document["violations"]} == {"D1"}
    assert all(violation["seed"] == 5 and violation["reproduce"] for violation in again.document["violations"])


def test_a_canary_is_caught_by_the_invariant_that_it_breaks(tmp_path: Path) -> None:
    """Its key changes with the epoch: the killed worker's charge is made again, and applied twice."""
    plan = write_plan(tmp_path, at_point("step.checkpointing", step="charge", worker=0))
    command = ("run", "payments", "--seed", "1", "--workers", "2", *SMALL, "--json")
    broken = duress(tmp_path, *command, "--plan", plan, "--canary", "key-of-the-epoch")
    assert broken.code == 1, broken.err + broken.out
    assert {violation["invariant"] for violation in broken.document["violations"]} == {"S4"}
    assert "--canary key-of-the-epoch" in broken.document["violations"][0]["reproduce"]
    [messages] = tmp_path.rglob("seed-1/messages.jsonl")  # what passed the proxy is kept beside the workers' own words
    passed = [json.loads(line) for line in messages.read_text().splitlines()]
    assert {line["worker"] for line in passed} == {0, 1} and all(line["at"] >= 0 for line in passed)
    assert {"Query", "CommandComplete"} <= {line["message"] for line in passed}
    sound = duress(tmp_path, *command, "--plan", plan)
    assert sound.code == 0, sound.err + sound.out
    assert list(tmp_path.rglob("messages.jsonl")) == [messages]
    unprovoked = duress(tmp_path, *command, "--faults", "none", "--canary", "key-of-the-epoch")
    assert unprovoked.code == 0, unprovoked.err + unprovoked.out


def test_a_user_s_own_server_is_used_and_left_as_it_was(tmp_path: Path, server: Server) -> None:
    databases = names(server)
    plan = write_plan(tmp_path, at_point("step.committing", step="debit", occurrence=2))
    command = ("run", "payments", "--seed", "2", "--plan", plan, "--workers", "2", "--dsn", server.dsn())
    said = duress(tmp_path, *command, "--json", *SMALL)
    assert said.code == 0, said.err + said.out
    assert names(server) == databases
    result = json.loads((tmp_path / said.document["campaigns"][0]["result"]).read_text())
    words = shlex.split(result["runs"][0]["reproduce"])
    assert f"port={server.port}" in words[words.index("--dsn") + 1]


def names(server: Server) -> set[str]:
    import psycopg

    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        return {row[0] for row in connection.execute("select datname from pg_database")}


@pytest.mark.parametrize(
    ("number", "code", "after"), [(signal.SIGINT, 130, 0.0), (signal.SIGTERM, 130, 0.0), (signal.SIGKILL, -9, 2.0)]
)
def test_however_it_is_ended_nothing_is_left(tmp_path: Path, number: int, code: int, after: float) -> None:
    """Ctrl-C twice and SIGTERM end it cleanly with 130; SIGKILL leaves nothing 2 s later. In the middle of faults."""
    plan = write_plan(
        tmp_path,
        {**at_point("step.started", "pause-worker", worker=0), "fault": {"kind": "pause-worker", "duration": 60}},
        at_point("worker.left", worker=1),
    )
    harness = start(tmp_path, "run", "payments", "--seed", "1", "--plan", plan, "--workers", "3", *SMALL)
    try:
        family = wait_for_family(harness)
        harness.send_signal(number)
        if number == signal.SIGINT:
            assert harness.stderr is not None
            assert "Ctrl-C again stops at once" in harness.stderr.readline()
            harness.send_signal(number)
        _, err = harness.communicate(timeout=LIMIT)
    finally:
        if harness.poll() is None:
            harness.kill()
            harness.wait()
    assert harness.returncode == code, err
    assert "Traceback" not in err
    deadline = time.monotonic() + after
    while any(map(lives, family)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in family if lives(pid)] == []


def wait_for_family(harness: subprocess.Popen[str]) -> set[tuple[int, str]]:
    """All descendants of the harness, once a worker among them has been paused; (pid, start time)."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and harness.poll() is None:
        family = descendants(harness.pid)
        if any(stat(pid)[0] == "T" for pid, _ in family):
            assert len(family) > 10, "a guardian, a server with its backends, a nursery, three workers"
            return family
        time.sleep(0.02)
    raise AssertionError(f"no worker was paused; exit code {harness.poll()}")


def descendants(root: int) -> set[tuple[int, str]]:
    parents = {
        int(entry.name): int(stat(int(entry.name))[1]) for entry in Path("/proc").iterdir() if entry.name.isdigit()
    }
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {(pid, stat(pid)[19]) for pid in family - {root}}


def lives(process: tuple[int, str]) -> bool:
    fields = stat(process[0])
    return fields[19] == process[1] and fields[0] not in "ZX"


def stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on; a process that is gone has state X."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", "0", *["0"] * 30]
