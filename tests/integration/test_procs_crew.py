"""What a worker reports is known before it goes on, and survives it; nothing outlives the harness."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from telling_worker import LIMIT, in_a_loop, state, telling

from duress.scenarios.history import EXITED, SPAWNED
from duress.scenarios.points import Armed, Reported
from duress.scenarios.procs.crew import WorkerStartFailed


def kill(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)


@in_a_loop
async def test_what_was_told_before_a_sigkill_is_kept(tmp_path: Path) -> None:
    """The last number that a worker wrote down after telling it was heard, whenever it is killed."""
    async with telling(tmp_path) as told:
        await told.crew.start(1)
        for round_ in range(5):
            before = len(told.heard(0))
            await told.until(lambda before=before: len(told.heard(0)) > before + 200)  # type: ignore[misc]
            process = told.crew.process(0)
            assert process is not None
            kill(process.pid)
            await told.until(lambda: told.crew.process(0) is None)
            written = told.written(0)
            assert written in told.heard(0)[before:], round_
            await told.crew.respawn(0)
            await told.crew.joined(0)


@in_a_loop
async def test_a_fault_that_waits_for_a_worker_to_come_back_ends_it_on_purpose(tmp_path: Path) -> None:
    """It was on its way out, by another fault, when the fault was told of it; afterwards it ends by itself."""
    async with telling(tmp_path) as told:
        await told.crew.start(1)
        for unplanned in (0, 0, 1):
            process = told.crew.process(0)
            assert process is not None
            if not told.recorder.facts_of(EXITED):
                told.crew.expect_end(0)
            kill(process.pid)
            await told.until(lambda: told.crew.process(0) is None)
            assert len(told.crew.unplanned) == unplanned
            await told.crew.respawn(0)
            await told.crew.joined(0)
            if len(told.recorder.facts_of(EXITED)) == 1:
                told.crew.expect_no_more(0)


@in_a_loop
async def test_a_worker_stands_still_at_an_armed_point_until_answered(tmp_path: Path) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def held(worker: int, report: Reported) -> None:
        assert report.facts["name"] == "charge"
        reached.set()
        await go.wait()

    async with telling(tmp_path, armed=(Armed("step.started", "charge"),), held=held) as told:
        await told.crew.start(1)
        await asyncio.wait_for(reached.wait(), LIMIT)
        assert told.heard(0) == [0, 1]  # 0 is a debit, 1 the first charge
        process = told.crew.process(0)
        assert process is not None
        await told.until(lambda: "S" in state(process.pid))  # it sleeps, in recv
        assert told.heard(0) == [0, 1]
        assert told.written(0) == 0  # it has not gone on
        go.set()
        await told.until(lambda: told.written(0) >= 3)


@in_a_loop
async def test_a_worker_killed_at_an_armed_point_never_goes_on(tmp_path: Path) -> None:
    async def held(worker: int, report: Reported) -> None:
        process = told.crew.process(worker)
        assert process is not None
        told.crew.expect_end(worker)
        kill(process.pid)

    async with telling(tmp_path, armed=(Armed("step.started", "charge"),), held=held) as told:
        await told.crew.start(1)
        await told.until(lambda: told.crew.process(0) is None)
        assert told.heard(0) == [0, 1]
        assert told.written(0) == 0
        [exited] = told.recorder.facts_of(EXITED)
        assert (exited["signal"], exited["code"], exited["planned"]) == (9, None, True)
        assert told.crew.unplanned == []


@in_a_loop
async def test_each_worker_that_ends_by_itself_is_named(tmp_path: Path) -> None:
    async with telling(tmp_path) as told:
        await told.crew.start(2)
        process = told.crew.process(1)
        assert process is not None
        kill(process.pid)  # by somebody else
        await told.until(lambda: told.crew.process(1) is None)
        assert len(told.crew.unplanned) == 1
        assert "worker 1 ended by itself (signal SIGKILL)" in told.crew.unplanned[0]
        assert told.crew.alive() == [0]
        assert [facts["worker"] for facts in told.recorder.facts_of(SPAWNED)] == [0, 1]


@in_a_loop
async def test_a_worker_that_cannot_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    async with telling(tmp_path, schema="quits") as told:
        with pytest.raises(WorkerStartFailed, match=r"worker 0 ended \(exit code 9\)[\s\S]*I quit"):
            await told.crew.start(1)


@in_a_loop
async def test_an_error_of_the_harness_at_a_point_is_not_swallowed(tmp_path: Path) -> None:
    async def held(worker: int, report: Reported) -> None:
        raise RuntimeError("cannot inject")

    async with telling(tmp_path, armed=(Armed("step.started"),), held=held) as told:
        await told.crew.start(1)
        with pytest.raises(RuntimeError, match="cannot inject"):
            await asyncio.wait_for(told.crew.broken, LIMIT)


HARNESS = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from telling_worker import telling

async def main():
    async with telling(Path(sys.argv[1])) as told:
        await told.crew.start(2)
        os.kill(told.crew.process(1).pid, signal.SIGSTOP)
        print(told.crew.process(0).pid, told.crew.process(1).pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_no_worker_outlives_a_harness_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL to the harness: 2 s later no worker is left, not even a stopped one."""
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert harness.stdout is not None
        workers = [int(pid) for pid in harness.stdout.readline().split()]
        assert [bool(state(pid)) for pid in workers] == [True, True]
    finally:
        harness.kill()
        harness.wait()
    deadline = time.monotonic() + 2
    while any(state(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [state(pid) for pid in workers] == ["", ""]
