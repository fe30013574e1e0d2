"""Drives DBOS Transact, set up as its documentation says, in the process it runs in.

Set-ups tried, the fastest counts: plain functions in DBOS's thread pool, coroutines on its event loop, and coroutines
from a DBOS queue. The system database's connection pool has the documented default (20), or one connection per
concurrent workflow.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from dbos import DBOS  # type: ignore[import-not-found]

from benchmarks.protocol import (
    SEQUENTIAL_STEPS,
    Answer,
    Countdown,
    Job,
    read_job,
    time_drains,
    time_drains_async,
    write_answer,
)

_DRAIN_TIMEOUT_S = 300.0
_QUEUE = "bench"
_latencies_ms: list[float] = []
_countdown = Countdown(0)


def noop(number: int) -> int:
    """The step: does nothing, so that what is measured is the engine."""
    return number


async def noop_async(number: int) -> int:
    """The same as a coroutine."""
    return number


step = DBOS.step(name="noop")(noop)
step_async = DBOS.step(name="noop_async")(noop_async)


def run_steps(steps: int) -> int:
    for number in range(steps):
        began = time.perf_counter()
        step(number)
        _latencies_ms.append((time.perf_counter() - began) * 1e3)
    _countdown.body_ended()
    return steps


async def run_steps_async(steps: int) -> int:
    for number in range(steps):
        began = time.perf_counter()
        await step_async(number)
        _latencies_ms.append((time.perf_counter() - began) * 1e3)
    _countdown.body_ended()
    return steps


workflow = DBOS.workflow(name="run_steps")(run_steps)
workflow_async = DBOS.workflow(name="run_steps_async")(run_steps_async)


def launch(job: Job) -> None:
    """Start DBOS on the job's database with the options in the set-up's name."""
    config: dict[str, Any] = {"name": "bench", "system_database_url": job.dsn, "log_level": "WARNING"}
    for option in job.setup.split("/")[1:]:
        if option.startswith("pool"):
            config["sys_db_pool_size"] = int(option.removeprefix("pool"))
        if option.startswith("threads"):
            config["max_executor_threads"] = int(option.removeprefix("threads"))
        if option == "noping":
            config["db_engine_kwargs"] = {"pool_pre_ping": False}
    DBOS(config=config)
    DBOS.launch()


def drain_threads(job: Job) -> Callable[[int], float]:
    """Closed loop: a thread for each workflow that may run; it starts one and waits for its result, then the next."""

    def lane(numbers: Iterator[int]) -> None:
        for _ in numbers:
            DBOS.start_workflow(workflow, job.steps).get_result()

    def drain(workflows: int) -> float:
        numbers = iter(range(workflows))  # next() on a range iterator is atomic under the interpreter's lock
        began = time.perf_counter()
        with ThreadPoolExecutor(job.concurrency) as lanes:
            for done in [lanes.submit(lane, numbers) for _ in range(job.concurrency)]:
                done.result()
        return time.perf_counter() - began

    return drain


def drain_asyncio(job: Job) -> Callable[[int], Awaitable[float]]:
    """The same closed loop with coroutines."""

    async def lane(numbers: Iterator[int]) -> None:
        for _ in numbers:
            handle = await DBOS.start_workflow_async(workflow_async, job.steps)
            await handle.get_result()

    async def drain(workflows: int) -> float:
        numbers = iter(range(workflows))
        began = time.perf_counter()
        await asyncio.gather(*(lane(numbers) for _ in range(job.concurrency)))
        return time.perf_counter() - began

    return drain


def drain_queue(job: Job) -> Callable[[int], float]:
    """Enqueue everything first; the clock runs from the moment this process listens to the queue again."""
    generation = itertools.count()

    def drain(workflows: int) -> float:
        global _countdown
        _countdown = Countdown(workflows)
        name = f"{_QUEUE}-{next(generation)}"
        # Registered with a long first poll, so that nothing runs before everything is enqueued.
        for _ in range(workflows):
            DBOS.enqueue_workflow(name, workflow, job.steps)
        began = time.perf_counter()
        DBOS.register_queue(name, worker_concurrency=job.concurrency, polling_interval_sec=0.01)
        _countdown.wait(_DRAIN_TIMEOUT_S)
        return _countdown.at - began

    return drain


def sequential_sync(job: Job, answer: Answer) -> None:
    """One workflow after another in the caller's thread, steps timed inside."""
    workflow(SEQUENTIAL_STEPS)
    _latencies_ms.clear()
    began = time.perf_counter()
    while time.perf_counter() - began < job.seconds:
        workflow(SEQUENTIAL_STEPS)
    answer.latencies_ms = list(_latencies_ms)
    answer.rows_expected = len(_latencies_ms) + SEQUENTIAL_STEPS


async def sequential_async(job: Job, answer: Answer) -> None:
    """The same with coroutines."""
    await workflow_async(SEQUENTIAL_STEPS)
    _latencies_ms.clear()
    began = time.perf_counter()
    while time.perf_counter() - began < job.seconds:
        await workflow_async(SEQUENTIAL_STEPS)
    answer.latencies_ms = list(_latencies_ms)
    answer.rows_expected = len(_latencies_ms) + SEQUENTIAL_STEPS


async def main_async(job: Job, answer: Answer) -> None:
    """Launch inside the loop, as the documentation asks of asynchronous programs."""
    launch(job)
    if job.mode == "sequential":
        await sequential_async(job, answer)
    else:
        await time_drains_async(job, answer, drain_asyncio(job))


def main() -> None:
    job = read_job()
    answer = Answer(job.setup, version("dbos"))
    if job.setup.startswith("asyncio"):
        asyncio.run(main_async(job, answer))
    else:
        launch(job)
        if job.mode == "sequential":
            sequential_sync(job, answer)
        elif job.setup.startswith("queue"):
            time_drains(job, answer, drain_queue(job))
        else:
            time_drains(job, answer, drain_threads(job))
    write_answer(job, answer)
    DBOS.destroy()


if __name__ == "__main__":
    main()
