"""SIGKILL of the simulating process, at any moment, leaves no server, no backend and no folder."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from duress.faults.postgres.guardian import parents_of_all
from duress.simulator.server import Cell

KILLS = 5  # with each PostgreSQL
GONE_WITHIN_S = 2.0

# Names its server, then holds, blocks and releases backends without end.
PROGRAM = """
import itertools, sys
from duress.faults.postgres import find_binaries
from duress.simulator.server import Blocked, Cell

cell = Cell.start(binaries=find_binaries(sys.argv[1]))
print(cell.server.postmaster_pid, *cell.server.folders, flush=True)
one, other = cell.open_session(), cell.open_session()
one.run("create table t (id int primary key, v int); insert into t values (1, 0)")
for k in itertools.cycle(range(1, 4)):
    one.backend.arm(k)
    held = one.send("update t set v = v + 1")
    waits = other.send("update t set v = v + 1")
    one.grant()
    if isinstance(waits, Blocked):
        other.grant()
    cell.set_now(cell.now_us + 1)
"""


def family(postmaster: int) -> set[int]:
    return {postmaster, *(pid for pid, parent in parents_of_all().items() if parent == postmaster)}


HOLDING = """
import sys, time
from duress.faults.postgres import find_binaries
from duress.simulator.server import Cell

cell = Cell.start(binaries=find_binaries(sys.argv[1]))
session = cell.open_session()
session.backend.arm(1)
session.send("select 1")
print(cell.server.postmaster_pid, session.backend.pid, flush=True)
time.sleep(60)
"""


def test_a_held_backend_ends_by_itself_when_nobody_is_left_to_end_it(cell: Cell, open_folder: Path) -> None:
    """The simulator, the guardian and the postmaster killed together: only the backend itself can notice.

    Its files are where no other server that starts meanwhile looks for what was left behind.
    """
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(cell.server.binaries.folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DURESS_POSTGRES_DIRECTORY": str(open_folder)},
    ) as process:
        assert process.stdout
        postmaster, held = map(int, process.stdout.readline().split())
        guardian = parents_of_all()[postmaster]
        for pid in (guardian, process.pid, postmaster):  # in this order nobody has time for the next
            os.kill(pid, signal.SIGSTOP)
        for pid in (postmaster, guardian, process.pid):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 3.0
    while Path(f"/proc/{held}").exists():
        assert time.monotonic() < deadline, "the held backend lives on"
        time.sleep(0.01)
    (log,) = open_folder.glob("*/server.log")
    assert "the simulator is gone: this backend ends" in log.read_text()


def test_nothing_is_left_of_a_simulation_that_was_killed(cell: Cell, open_folder: Path) -> None:
    chance = random.Random(4)
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(cell.server.binaries.folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DURESS_POSTGRES_DIRECTORY": str(open_folder)},
        )
        assert process.stdout
        with process, process.stdout:
            postmaster, *folders = process.stdout.readline().split()
            assert process.poll() is None and len(folders) >= 2
            select.select([], [], [], chance.uniform(0.01, 0.1))  # a random moment is what is asked for
            started = family(int(postmaster))
            assert len(started) > 4
            process.kill()
        deadline = time.monotonic() + GONE_WITHIN_S
        while (left := [pid for pid in started if Path(f"/proc/{pid}").exists()]) or any(
            map(Path.exists, map(Path, folders))
        ):
            assert time.monotonic() < deadline, f"after {GONE_WITHIN_S:g} s: processes {left}, folders {folders}"
            time.sleep(0.01)
