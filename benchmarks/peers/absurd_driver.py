"""Drives Absurd through its Python SDK, set up as its documentation says, in the process it runs in.

Set-ups tried, the fastest counts: one asynchronous worker with the job's concurrency, several of them in one event
loop that share the concurrency (each has a connection of its own, which is what bounds a worker), and the synchronous
worker's thread pool. The queue and the schema are made beforehand by Absurd's own installer, `absurdctl`.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from absurd_sdk import Absurd, AsyncAbsurd  # type: ignore[import-not-found]

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

QUEUE = "bench"
_TASK = "run-steps"
_DRAIN_TIMEOUT_S = 300.0
_POLL_S = 0.01  # of an idle worker; the documented 0.25 would only add waiting before the first claim
_latencies_ms: list[float] = []
_countdown = Countdown(0)


async def run_steps_async(params: dict[str, int], ctx: Any) -> int:
    """The workflow: steps that do nothing, so that what is measured is the engine."""

    async def noop() -> int:
        return 1

    for number in range(params["steps"]):
        began = time.perf_counter()
        await ctx.step(f"noop-{number}", noop)
        _latencies_ms.append((time.perf_counter() - began) * 1e3)
    _countdown.body_ended()
    return params["steps"]


def run_steps(params: dict[str, int], ctx: Any) -> int:
    """The same for the synchronous client."""
    for number in range(params["steps"]):
        began = time.perf_counter()
        ctx.step(f"noop-{number}", lambda: 1)
        _latencies_ms.append((time.perf_counter() - began) * 1e3)
    _countdown.body_ended()
    return params["steps"]


async def _enqueue_async(client: Any, workflows: int, steps: int) -> None:
    global _countdown
    _countdown = Countdown(workflows)
    for _ in range(workflows):
        await client.spawn(_TASK, {"steps": steps}, queue=QUEUE)


def drain_async(job: Job, clients: list[Any]) -> Callable[[int], Awaitable[float]]:
    """Spawn everything first; the clock runs while the workers do, until the last body has ended."""

    async def drain(workflows: int) -> float:
        await _enqueue_async(clients[0], workflows, job.steps)
        began = time.perf_counter()
        share = job.concurrency // len(clients)
        workers = [
            asyncio.ensure_future(client.start_worker(concurrency=share, poll_interval=_POLL_S)) for client in clients
        ]
        await _countdown.wait_async(_DRAIN_TIMEOUT_S)
        for client in clients:
            client.stop_worker()
        await asyncio.gather(*workers)
        return _countdown.at - began

    return drain


def drain_sync(job: Job, client: Any) -> Callable[[int], float]:
    """The same with the synchronous worker, which runs its tasks in threads."""

    def drain(workflows: int) -> float:
        global _countdown
        _countdown = Countdown(workflows)
        for _ in range(workflows):
            client.spawn(_TASK, {"steps": job.steps}, queue=QUEUE)
        worker = threading.Thread(
            target=client.start_worker, kwargs={"concurrency": job.concurrency, "poll_interval": _POLL_S}, daemon=True
        )
        began = time.perf_counter()
        worker.start()
        _countdown.wait(_DRAIN_TIMEOUT_S)
        client.stop_worker()
        worker.join()
        return _countdown.at - began

    return drain


async def sequential_async(job: Job, answer: Answer, client: Any) -> None:
    """One workflow at a time on one connection, steps timed inside; the first is the warm-up."""
    worker = asyncio.ensure_future(client.start_worker(concurrency=1, poll_interval=_POLL_S))
    began = ended = 0.0
    while not began or ended - began < job.seconds:
        await _enqueue_async(client, 1, SEQUENTIAL_STEPS)
        await _countdown.wait_async(_DRAIN_TIMEOUT_S)
        ended = time.perf_counter()
        answer.rows_expected += SEQUENTIAL_STEPS
        if not began:
            began = ended
            _latencies_ms.clear()
    client.stop_worker()
    await worker
    answer.latencies_ms = list(_latencies_ms)


def sequential_sync(job: Job, answer: Answer, client: Any) -> None:
    """The same with the synchronous client."""
    global _countdown
    began = 0.0
    while not began or time.perf_counter() - began < job.seconds:
        _countdown = Countdown(1)
        client.spawn(_TASK, {"steps": SEQUENTIAL_STEPS}, queue=QUEUE)
        client.work_batch()
        answer.rows_expected += SEQUENTIAL_STEPS
        if not began:
            began = time.perf_counter()
            _latencies_ms.clear()
    answer.latencies_ms = list(_latencies_ms)


async def main_async(job: Job, answer: Answer) -> None:
    """As many asynchronous clients as the set-up's name says (`asyncio/4`), each with its own connection."""
    count = 1 if job.mode == "sequential" else int(job.setup.partition("/")[2] or 1)
    clients = [AsyncAbsurd(job.dsn, queue_name=QUEUE) for _ in range(count)]
    for client in clients:
        client.register_task(_TASK)(run_steps_async)
    if job.mode == "sequential":
        await sequential_async(job, answer, clients[0])
    else:
        await time_drains_async(job, answer, drain_async(job, clients))
    for client in clients:
        await client.close()


def main() -> None:
    job = read_job()
    answer = Answer(job.setup, version("absurd-sdk"))
    if job.setup.startswith("asyncio"):
        asyncio.run(main_async(job, answer))
    else:
        client = Absurd(job.dsn, queue_name=QUEUE)
        client.register_task(_TASK)(run_steps)
        if job.mode == "sequential":
            sequential_sync(job, answer, client)
        else:
            time_drains(job, answer, drain_sync(job, client))
        client.close()
    write_answer(job, answer)


if __name__ == "__main__":
    main()
