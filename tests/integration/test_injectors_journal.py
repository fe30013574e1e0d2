"""What a killed harness left stopped can be undone from its journal, and nobody else is touched."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from injected_workers import state

from duress.faults.journal import Journal, heal_leftovers
from duress.faults.undo import End, ProcessId, Resume, Run, group, identify

HARNESS = """
import asyncio, sys, time
from pathlib import Path
from duress.faults.injectors.procs import ProcsInjector
from duress.faults.injectors.target import WorkerProcess
from duress.faults.journal import Journal
from duress.faults.plan import AtTime, Event, PauseWorker
class Target:
    server, pair, network, dsn = None, None, None, ""
    def process(self, worker): return WorkerProcess(worker, int(sys.argv[1]), int(sys.argv[1]))
async def main():
    injector = ProcsInjector(Target(), clock=time.monotonic, journal=Journal(Path(sys.argv[2])))
    print(await injector.inject(Event(trigger=AtTime(seconds=0), fault=PauseWorker(duration=600)), 0), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of two."""
    process = subprocess.Popen(["sh", "-c", "sleep 600 & echo; wait"], process_group=0, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.fixture
def harness(victim: subprocess.Popen[bytes], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A harness that has paused the victim and is about to wait for a long time."""
    process = subprocess.Popen([sys.executable, "-c", HARNESS, str(victim.pid), tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert b"is stopped (state T)" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def edit(path: Path, **changes: object) -> None:
    """Change fields of the first line of a journal."""
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(first) | changes) + b"\n" + rest)


def test_a_killed_harness_is_cleaned_up_after(
    victim: subprocess.Popen[bytes], harness: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    members = [member.pid for member in group(victim.pid)]
    assert len(members) == 2
    harness.kill()
    harness.wait()
    assert [state(pid) for pid in members] == ["T", "T"]
    said = heal_leftovers(tmp_path)
    assert "T" not in [state(pid) for pid in members]
    assert len(said) == 2
    assert f"sent SIGCONT to process {victim.pid}" in said[0]
    assert "pause the busiest worker at 0 s for 600 s" in said[0]
    assert list(tmp_path.iterdir()) == []
    assert heal_leftovers(tmp_path) == []


def test_a_harness_that_lives_is_left_alone(
    victim: subprocess.Popen[bytes], harness: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert heal_leftovers(tmp_path) == [f"harness {harness.pid} still runs and will undo 1 injections itself"]
    assert state(victim.pid) == "T"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_harness_is_known_by_its_start_time(
    victim: subprocess.Popen[bytes], harness: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """A later process with its number is not the harness."""
    [path] = tmp_path.iterdir()
    edit(path, harness={"pid": harness.pid, "start_time": 1})
    assert heal_leftovers(tmp_path) != []
    assert state(victim.pid) != "T"


def left_behind(folder: Path, process: ProcessId) -> Path:
    """The journal of a harness that is gone and had stopped `process`."""
    Journal(folder).record(Resume((process,)), "pause worker 0")
    [path] = folder.iterdir()
    edit(path, harness={"pid": 2**22 + 1, "start_time": 1})
    return path


def test_a_process_is_known_by_its_start_time(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    os.kill(victim.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, victim.pid, os.WSTOPPED)
    one = identify(victim.pid)
    assert one is not None
    path = left_behind(tmp_path, ProcessId(pid=one.pid, start_time=one.start_time + 1))
    assert heal_leftovers(tmp_path) == []
    assert not path.exists()
    assert state(victim.pid) == "T"
    left_behind(tmp_path, one)
    assert len(heal_leftovers(tmp_path)) == 1
    assert state(victim.pid) != "T"


def test_a_journal_from_before_a_reboot_touches_nobody(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    os.kill(victim.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, victim.pid, os.WSTOPPED)
    one = identify(victim.pid)
    assert one is not None
    path = left_behind(tmp_path, one)
    edit(path, boot="another")
    assert heal_leftovers(tmp_path) == []
    assert state(victim.pid) == "T"
    assert not path.exists()


def test_what_is_undone_is_crossed_out_and_an_empty_journal_goes(tmp_path: Path) -> None:
    me = identify(os.getpid())
    assert me is not None
    journal = Journal(tmp_path)
    first, second = (journal.record(Resume((me,)), why) for why in ("one", "two"))
    journal.done(first)
    [path] = tmp_path.iterdir()
    edit(path, harness={"pid": 2**22 + 1, "start_time": 1})
    [said] = heal_leftovers(tmp_path)
    assert "two" in said
    journal = Journal(tmp_path)
    journal.done(journal.record(Resume((me,)), "three"))
    assert list(tmp_path.iterdir()) == []
    journal.done(second)


def test_a_line_cut_short_was_never_acted_on_and_rubbish_is_named(tmp_path: Path) -> None:
    me = identify(os.getpid())
    assert me is not None
    path = left_behind(tmp_path, me)
    path.write_bytes(path.read_bytes()[:-20])
    assert heal_leftovers(tmp_path) == []
    assert not path.exists()
    (tmp_path / "x.jsonl").write_text("rubbish\n")
    [said] = heal_leftovers(tmp_path)
    assert "x.jsonl is not a journal" in said
    assert heal_leftovers(tmp_path / "missing") == []


def test_journals_of_one_process_do_not_mix(tmp_path: Path) -> None:
    me = identify(os.getpid())
    assert me is not None
    one, two = Journal(tmp_path), Journal(tmp_path)
    entries = one.record(Resume((me,)), "one"), two.record(Resume((me,)), "two")
    assert len(list(tmp_path.iterdir())) == 2
    one.done(entries[0])
    assert len(list(tmp_path.iterdir())) == 1
    two.done(entries[1])
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_served_the_harness_is_ended(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    one = identify(victim.pid)
    assert one is not None
    other = ProcessId(pid=os.getpid(), start_time=1)
    Journal(tmp_path).record(End((one, other)), "pooler")
    [path] = tmp_path.iterdir()
    edit(path, harness={"pid": 2**22 + 1, "start_time": 1})
    assert heal_leftovers(tmp_path) == [
        f"ended process {victim.pid}, which a harness that is gone had started (pooler)"
    ]
    assert victim.wait() == -signal.SIGKILL


def test_what_could_not_be_undone_is_said_and_kept(tmp_path: Path) -> None:
    """A journal is a file: only the programs that take back rules of the kernel are run from it."""
    touched = tmp_path / "touched"
    for argv in (("touch", str(touched)), ("ip", "no-such-object")):
        folder = tmp_path / argv[0]
        Journal(folder).record(Run(argv), "partition worker 1")
        [path] = folder.iterdir()
        edit(path, harness={"pid": 2**22 + 1, "start_time": 1})
        [said] = heal_leftovers(folder)
        assert "is kept" in said and " ".join(argv) in said and "partition worker 1" in said
        assert path.exists()
    assert not touched.exists()
