"""Drives duress in the process it runs in: the same job as the peers' drivers get, through the public API only."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

import psycopg

from benchmarks.limit import INSERT, INSERT_VALUE, ROW_INSERT
from benchmarks.protocol import SEQUENTIAL_STEPS, Answer, Countdown, Job, read_job, time_drains_async, write_answer
from duress.engine import Engine, step, workflow

Connection = psycopg.AsyncConnection[tuple[object, ...]]
_DRAIN_TIMEOUT_S = 300.0
_STARTERS = 64  # workflows being started at once while a backlog is built; not timed
_latencies_ms: list[float] = []
_countdown = Countdown(0)
_started = 0


@step
async def noop(number: int) -> int:
    """Does nothing, so that what is measured is the engine."""
    return number


@workflow
async def run_steps(steps: int) -> int:
    """The workflow that every engine runs."""
    for number in range(steps):
        began = time.perf_counter()
        await noop(number)
        _latencies_ms.append((time.perf_counter() - began) * 1e3)
    _countdown.body_ended()
    return steps


async def start_backlog(client: Engine, workflows: int, steps: int) -> None:
    """Start that many workflows; returns when all are durable."""
    global _countdown, _started
    _countdown = Countdown(workflows)
    first = _started
    _started += workflows
    numbers = iter(range(first, first + workflows))

    async def lane() -> None:
        for number in numbers:
            await client.start(f"bench-{number}", run_steps, steps)

    await asyncio.gather(*(lane() for _ in range(_STARTERS)))


def drain(job: Job, client: Engine) -> Callable[[int], Awaitable[float]]:
    """Start everything first; the clock runs from the moment the worker is told to work, its joining included."""

    async def run(workflows: int) -> float:
        await start_backlog(client, workflows, job.steps)
        _latencies_ms.clear()
        async with Engine(job.dsn) as engine:
            began = time.perf_counter()
            working = asyncio.ensure_future(engine.work(concurrency=job.concurrency, name="bench"))
            await _until_drained(working)
            ended = _countdown.at
            await _until_finished(job.dsn)
            engine.stop()
            await working
        return ended - began

    return run


async def _until_drained(working: "asyncio.Future[None]") -> None:
    waiting = asyncio.ensure_future(_countdown.wait_async(_DRAIN_TIMEOUT_S))
    await asyncio.wait({waiting, working}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        working.result()  # the worker ended by itself: its own error says why
        raise RuntimeError("the worker ended before the backlog was drained")
    waiting.result()


async def _until_finished(dsn: str) -> None:
    """Wait until every outcome is durable: else the stopping worker hands workflows back, to run in the next drain."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        left = True
        while left:
            await asyncio.sleep(0.02)
            cursor = await connection.execute("select exists (select from duress.live)")
            left = (await cursor.fetchall())[0][0]


async def sequential(job: Job, answer: Answer, client: Engine) -> None:
    """One workflow at a time, steps timed inside; between workflows, while the worker is idle, prepared INSERTs.

    All in turns in one process and one event loop, so that whatever disturbs the machine disturbs all.
    """
    async with Engine(job.dsn) as engine, await psycopg.AsyncConnection.connect(job.dsn, autocommit=True) as connection:
        connection.prepare_threshold = 0
        working = asyncio.ensure_future(engine.work(concurrency=job.concurrency, name="bench"))
        inserts_ms: list[float] = []
        row_inserts_ms: list[float] = []
        began = 0.0
        for number in itertools.count():
            await start_backlog(client, 1, SEQUENTIAL_STEPS)
            await _until_drained(working)
            answer.rows_expected += SEQUENTIAL_STEPS
            await insert(connection, INSERT, [(INSERT_VALUE,)] * SEQUENTIAL_STEPS, inserts_ms)
            rows = [(number, str(step), INSERT_VALUE) for step in range(SEQUENTIAL_STEPS)]
            await insert(connection, ROW_INSERT, rows, row_inserts_ms)
            if not began:  # the first round was the warm-up
                began = time.perf_counter()
                for sample in (_latencies_ms, inserts_ms, row_inserts_ms):
                    sample.clear()
            elif time.perf_counter() - began >= job.seconds:
                break
        answer.latencies_ms = list(_latencies_ms)
        answer.insert_latencies_ms, answer.row_insert_latencies_ms = inserts_ms, row_inserts_ms
        engine.stop()
        await working


async def insert(
    connection: Connection, statement: str, rows: Sequence[tuple[object, ...]], spent_ms: list[float]
) -> None:
    """Single prepared INSERTs, each in a transaction of its own, one after another."""
    cursor = connection.cursor()
    encoded = statement.encode()
    for row in rows:
        began = time.perf_counter()
        await cursor.execute(encoded, row)
        spent_ms.append((time.perf_counter() - began) * 1e3)


async def main() -> None:
    job = read_job()
    try:
        answer = Answer(job.setup, version("duress"))
    except PackageNotFoundError:  # run from a checkout that was not installed
        answer = Answer(job.setup, "checkout")
    async with Engine(job.dsn) as client:
        await client.migrate()
        if job.mode == "sequential":
            await sequential(job, answer, client)
        else:
            await time_drains_async(job, answer, drain(job, client))
    write_answer(job, answer)


if __name__ == "__main__":
    asyncio.run(main())
