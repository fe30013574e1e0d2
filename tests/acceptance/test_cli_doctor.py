"""`duress doctor` says what works here and what would help, and undoes what a killed harness left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from command_line import duress, environment

HARNESS = """
import os, signal, sys, time
from duress.faults.journal import Journal
from duress.faults.undo import Resume, group
members = group(int(sys.argv[1]))
Journal().record(Resume(members), "pause worker 1 at 0.4 s for 600 s")
os.killpg(int(sys.argv[1]), signal.SIGSTOP)
print(flush=True)
time.sleep(600)
"""


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_doctor_says_what_works_and_what_would_help(tmp_path: Path) -> None:
    said = duress(tmp_path, "doctor")
    assert said.code == 0 and said.err == ""
    for heading in ("worlds", "networks", "faults", "tools"):
        assert heading in said.out.splitlines()
    document = duress(tmp_path, "doctor", "--json").document
    assert document["worlds"]["procs"] == {
        "works": True,
        "says": "real processes, a private PostgreSQL",
        "remedy": "",
    }
    assert document["faults"]["kill-worker"]["works"] is True
    (tmp_path / "bin").mkdir()
    poor = duress(tmp_path, "doctor", "--json", PATH=str(tmp_path / "bin"), CC="", DURESS_POSTGRES=str(tmp_path))
    assert poor.document["tools"]["pg_basebackup"]["works"] is False
    assert "DURESS_POSTGRES" in poor.document["tools"]["pg_basebackup"]["remedy"]
    if not poor.document["tools"]["C compiler"]["works"]:  # a wheel may bring one
        assert poor.document["worlds"]["sim"]["works"] is False
        assert "gcc" in poor.document["worlds"]["sim"]["remedy"]


def test_the_doctor_heals_what_a_killed_harness_left(tmp_path: Path) -> None:
    victim = subprocess.Popen(["sleep", "600"], process_group=0)
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(victim.pid)], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
    )
    try:
        assert harness.stdout is not None
        harness.stdout.readline()
        os.waitid(os.P_PID, victim.pid, os.WSTOPPED)
        said = duress(tmp_path, "doctor", "--heal")
        assert said.code == 0 and f"harness {harness.pid} still runs" in said.out
        assert state(victim.pid) == "T"
        assert "1 journals in .duress/journal" in duress(tmp_path, "doctor").out
        harness.kill()
        harness.wait()
        healed = duress(tmp_path, "doctor", "--heal", "--json").document["healed"]
        [sentence] = [line for line in healed if str(victim.pid) in line]
        assert sentence.startswith(f"sent SIGCONT to process {victim.pid}") and "pause worker 1" in sentence
        assert state(victim.pid) != "T"
        assert str(victim.pid) not in duress(tmp_path, "doctor", "--heal").out
    finally:
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        harness.kill()
        harness.communicate()
