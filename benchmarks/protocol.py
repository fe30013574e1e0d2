"""What every engine's driver is asked, and what it answers: the same job and the same clock for all of them.

Standard library only: the peers' drivers import it in an environment without our dependencies.

A concurrent job keeps `concurrency` workflows of `steps` no-op steps running in one process for at least `seconds`
seconds. A driver supplies `drain(n)`: bring n new workflows to their end and return the seconds from the first that
could run to the last body's end. Workflows are enqueued before the clock starts where the engine has a queue. A
sequential job runs one workflow at a time and takes the time of each step inside it, on the caller's clock.
"""

import argparse
import asyncio
import contextlib
import ctypes
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path

SEQUENTIAL_STEPS = 200  # of one workflow: long enough that starting one does not show in a median
_ATTEMPTS = 4
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement of one engine in one set-up. `seconds` is a minimum."""

    dsn: str
    mode: str  # "concurrent" or "sequential"
    setup: str
    seconds: float
    concurrency: int
    steps: int
    out: str


@dataclass(slots=True)
class Answer:
    """What a driver did: `steps` in `seconds` when it was timed, `rows_expected` checkpoints with the warm-up."""

    setup: str
    version: str
    steps: int = 0
    seconds: float = 0.0
    rows_expected: int = 0
    latencies_ms: list[float] = field(default_factory=list)  # one per sequential step
    # duress only, prepared INSERTs in turns with its workflows: pgbench's, and one of a checkpoint's row.
    insert_latencies_ms: list[float] = field(default_factory=list)
    row_insert_latencies_ms: list[float] = field(default_factory=list)


class Countdown:
    """Ends when `left` workflow bodies have ended, and keeps when that was. Bodies may end in any thread."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._lock = threading.Lock()
        self._reached = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reached_in_loop = asyncio.Event()
        self.at = math.nan

    def body_ended(self) -> None:
        """One more body has returned."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.at = time.perf_counter()
                self._reached.set()
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._reached_in_loop.set)

    def wait(self, timeout: float) -> None:
        """Wait for the last body, or raise TimeoutError: a benchmark that lost a workflow has no result."""
        if not self._reached.wait(timeout):
            raise self._too_late(timeout)

    async def wait_async(self, timeout: float) -> None:
        """The same without blocking, or in any way disturbing, the event loop that runs the workflows."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self._reached.is_set():
                return
        try:
            async with asyncio.timeout(timeout):
                await self._reached_in_loop.wait()
        except TimeoutError:
            raise self._too_late(timeout) from None

    def _too_late(self, timeout: float) -> TimeoutError:
        return TimeoutError(f"{self._left} workflows did not end within {timeout:.0f} s; see the engine's own log")


def time_drains(job: Job, answer: Answer, drain: Callable[[int], float]) -> None:
    """Warm up, learn the rate, then time one drain of at least `job.seconds`; fills the answer."""
    plan = _drains(job, answer)
    workflows = next(plan)
    with contextlib.suppress(StopIteration):
        while True:
            workflows = plan.send(drain(workflows))


async def time_drains_async(job: Job, answer: Answer, drain: Callable[[int], Awaitable[float]]) -> None:
    """`time_drains` for drivers whose engine lives in this event loop."""
    plan = _drains(job, answer)
    workflows = next(plan)
    with contextlib.suppress(StopIteration):
        while True:
            workflows = plan.send(await drain(workflows))


def _drains(job: Job, answer: Answer) -> Generator[int, float, None]:
    """Yields how many workflows to drain next and is sent the seconds that took; knows nothing of how it is driven."""
    workflows = job.concurrency
    while True:  # doubles until a drain lasts a while, so that fast engines are warm as well
        seconds = yield workflows
        answer.rows_expected += workflows * job.steps
        if seconds >= min(1.0, job.seconds / 2):
            break
        workflows *= 2
    for _ in range(_ATTEMPTS):
        workflows = max(job.concurrency, math.ceil(workflows / seconds * job.seconds * 1.15))
        seconds = yield workflows
        answer.rows_expected += workflows * job.steps
        if seconds >= job.seconds:
            answer.steps, answer.seconds = workflows * job.steps, seconds
            return
    raise RuntimeError(f"{job.setup}: no drain lasted {job.seconds} s in {_ATTEMPTS} attempts; the rate keeps rising")


def end_with_parent() -> None:
    """Have the kernel kill this process when the benchmark that started it ends, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it was gone already
        sys.exit(1)


def read_job() -> Job:
    """The job from the command line; from now on this process ends with the one that gave it."""
    end_with_parent()
    parser = argparse.ArgumentParser()
    for name in ("dsn", "mode", "setup", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    return Job(**vars(parser.parse_args()))


def write_answer(job: Job, answer: Answer) -> None:
    """Leave the answer where the job asked for it; stdout belongs to the engine's own log."""
    Path(job.out).write_text(json.dumps(asdict(answer)))
