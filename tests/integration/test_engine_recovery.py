"""Real worker processes are killed, paused and stopped: what they held goes on elsewhere, soon and exactly once."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_room import PATIENCE_S, Sql, Watch, opened, session, working
from engine_workflows import EFFECTS, hostage, steps, transfer

from duress.engine import Engine
from duress.engine.errors import WorkerNameTaken, WorkflowDead
from duress.faults.postgres import Server

PROGRAM = Path(__file__).with_name("engine_worker.py")


class Worker:
    """A worker process and the points that it told of."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.points: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._changed:
                self.points.append(json.loads(line))
                self._changed.notify_all()

    async def seen(self, name: str, count: int = 1) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            found[:] = [point for point in self.points if point["point"] == name]
            return len(found) >= count

        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(enough)
        return found[count - 1]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            await self._reading
            return await self.process.wait()


@asynccontextmanager
async def workers(dsn: str, count: int, **options: Any) -> AsyncIterator[list[Worker]]:
    """Worker processes that have joined, in the order of their incarnations."""
    made: list[Worker] = []
    try:
        for _ in range(count):
            made.append(  # noqa: PERF401
                Worker(
                    await asyncio.create_subprocess_exec(
                        sys.executable,
                        str(PROGRAM),
                        dsn,
                        json.dumps(options),
                        stdin=asyncio.subprocess.PIPE,
                        stdout=asyncio.subprocess.PIPE,
                    )
                )
            )
        for worker in made:
            await worker.seen("worker.renewed")
        yield made
    finally:
        for worker in made:
            if worker.process.returncode is None:
                worker.send(signal.SIGKILL)
            await worker.ended()


@asynccontextmanager
async def ready(database: str) -> AsyncIterator[tuple[Engine, Sql]]:
    async with opened(database) as engine, session(database) as sql:
        await sql.conn.execute(EFFECTS.encode())
        yield engine, sql


async def exactly_once(sql: Sql, expected: int) -> None:
    """Every transaction step left its effect once, under the epoch of its checkpoint."""
    assert await sql.one("select count(*) from public.effect") == expected
    assert await sql.one("select count(distinct (workflow, step)) from public.effect") == expected
    mismatch = await sql.one(
        "select count(*) from public.effect e join duress.workflow w on w.id = e.workflow"
        " left join duress.checkpoint c on c.number = w.number and c.step = e.step and c.epoch = e.epoch"
        " where c.number is null"
    )
    assert mismatch == 0


def test_a_killed_workers_workflows_go_on_elsewhere_by_its_lock(database: str) -> None:
    async def run() -> None:
        async with ready(database) as (engine, sql), workers(database, 2, lease=20.0, heartbeat=1.0) as made:
            handles = [await engine.start(f"w{n}", transfer, 30.0) for n in range(10)]
            await sql.until("select count(*) from duress.checkpoint", is_=10)
            holder = 0 if any(point["point"] == "workflow.claimed" for point in made[0].points) else 1
            victim, other = made[holder], made[1 - holder]
            victim.send(signal.SIGKILL)
            killed = time.monotonic()
            took_over = await other.seen("worker.took-over")
            assert took_over["reason"] == "lock"
            assert time.monotonic() - killed < 3
            held = took_over["workflows"]
            assert held > 0
            await sql.until("select count(*) from duress.workflow where status = 'succeeded'", is_=held)
            await exactly_once(sql, 10 + held)
            assert await sql.one("select max(takeovers) from duress.live") in (None, 0)
            del handles

    asyncio.run(run())


def test_two_neighbours_in_the_ring_may_be_killed_at_once(database: str) -> None:
    async def run() -> None:
        async with ready(database) as (engine, sql), workers(database, 3, lease=20.0, concurrency=10) as made:
            for n in range(30):
                await engine.start(f"w{n}", transfer, 30.0)
            await sql.until("select count(*) from duress.live where owner is not null", is_=30)
            ring = {(await worker.seen("worker.joined"))["incarnation"]: worker for worker in made}
            order = [ring[number] for number in sorted(ring)]
            for victim in order[:2]:
                victim.send(signal.SIGKILL)
            last = order[2]
            assert {(await last.seen("worker.took-over", n))["reason"] for n in (1, 2)} == {"lock"}
            async with working(engine):  # the last one is busy with its own ten
                await sql.until("select count(*) from duress.workflow where status = 'succeeded'", is_=20)
            await exactly_once(sql, 50)

    asyncio.run(run())


def test_a_paused_worker_is_no_hostage_taker(database: str) -> None:
    """Stopped inside an open transaction that holds locks, it delays its successor by its lease and a second."""

    async def run() -> None:
        lease = 1.0
        async with (
            ready(database) as (engine, sql),
            workers(database, 1, lease=lease, heartbeat=0.2, hold="step.committing") as [victim],
        ):
            handle = await engine.start("one", hostage, 0.0)
            await victim.seen("step.committing")
            victim.send(signal.SIGSTOP)
            paused = time.monotonic()
            watch = Watch()
            async with Engine(database, observer=watch) as successor, working(successor, lease=lease, heartbeat=0.2):
                took_over = await watch.seen("worker.took-over")
                assert took_over["reason"] == "lease"
                assert await handle.result(timeout=9) == 2
                assert time.monotonic() - paused < lease + 1
                await exactly_once(sql, 1)
                victim.send(signal.SIGCONT)
                await victim.seen("worker.lost")
                await exactly_once(sql, 1)

    asyncio.run(run())


def test_a_workflow_that_brings_its_workers_down_is_given_up(database: str) -> None:
    async def run() -> None:
        options = {"takeovers": 2, "hold": "step.started", "lease": 20.0}
        async with ready(database) as (engine, sql), workers(database, 3, **options) as made:
            handle = await engine.start("poison", transfer, 0.0)
            for takeovers in (1, None):
                await sql.until("select owner is not null from duress.live")
                owner = await sql.one("select owner from duress.live")
                for worker in made:
                    if (await worker.seen("worker.joined"))["incarnation"] == owner:
                        worker.send(signal.SIGKILL)
                if takeovers:
                    await sql.until("select takeovers from duress.live", is_=takeovers)
            with pytest.raises(WorkflowDead):
                await handle.result(timeout=9)
            assert [summary.id for summary in await engine.list(status="dead")] == ["poison"]
            await exactly_once(sql, 0)

    asyncio.run(run())


def test_sigterm_records_the_body_in_progress_and_hands_over_the_rest_at_once(database: str) -> None:
    async def run() -> None:
        async with ready(database) as (engine, sql), workers(database, 1) as [worker]:
            busy = await engine.start("busy", transfer, 0.3)
            idle = [await engine.start(f"idle {n}", steps, 1000, 0.05) for n in range(5)]
            await sql.until("select count(*) from duress.checkpoint", is_=6)
            worker.send(signal.SIGTERM)
            sent = time.monotonic()
            assert await worker.ended() == 0
            assert time.monotonic() - sent < 2
            assert await sql.one("select end_reason from duress.worker") == "left"
            assert await sql.one("select count(*) from duress.live where owner is null") == 6
            assert await sql.one("select count(*) from pg_stat_activity where application_name like 'duress:1'") == 0
            assert [checkpoint.step for checkpoint in (await engine.show("busy")).checkpoints] == ["1", "2"]
            assert {await handle.status() for handle in (busy, *idle)} == {"pending"}
            async with working(engine):
                assert await busy.result(timeout=9) == 2
            await exactly_once(sql, 2)

    asyncio.run(run())


def test_two_living_workers_cannot_share_a_name_but_a_dead_ones_is_free(database: str) -> None:
    async def run() -> None:
        async with ready(database) as (engine, sql), workers(database, 1, name="работник", lease=20.0) as [first]:
            with pytest.raises(WorkerNameTaken, match="работник"):
                await engine.work(name="работник")
            handle = await engine.start("one", transfer, 30.0)
            await first.seen("step.checkpointed")
            first.send(signal.SIGKILL)
            await first.ended()
            async with working(engine, name="работник"):  # long before the lease is over
                assert await handle.result(timeout=9) == 2
            await exactly_once(sql, 2)

    asyncio.run(run())


def test_everything_finishes_through_a_crash_of_the_server(tmp_path: Path) -> None:
    with Server.start() as server:
        server.create_database("crash")
        database = server.dsn("crash")

        async def run() -> None:
            async with ready(database) as (engine, sql), workers(database, 2) as made:
                handles = [await engine.start(f"w{n}", transfer, 0.05) for n in range(60)]
                await sql.until("select count(*) >= 10 from duress.checkpoint")
                await asyncio.to_thread(server.restart, "immediate")
                for handle in handles:
                    assert await handle.result(timeout=20) == 2
                async with session(database) as after:
                    await exactly_once(after, 120)
                for worker in made:
                    worker.send(signal.SIGTERM)
                assert [await worker.ended() for worker in made] == [0, 0]

        asyncio.run(run())


def test_cancelled_statements_are_sent_again(database: str) -> None:
    """An operator's pg_cancel_backend ends no worker and fails no workflow."""

    async def run() -> None:
        async with ready(database) as (engine, sql), Engine(database) as worker, working(worker) as work:
            handles = [await engine.start(f"w{n}", steps, 50, 0.001) for n in range(40)]
            waiting = asyncio.gather(*(handle.result(timeout=20) for handle in handles))
            cancel = "select count(pg_cancel_backend(pid)) from pg_stat_activity where application_name ~ 'duress:'"
            cancelled = 0
            while not waiting.done():
                cancelled += await sql.one(cancel)
                await asyncio.sleep(0.01)
            assert await waiting == [50] * 40
            assert cancelled > 50
            assert not work.done()
            late = await engine.start("late", steps, 1)
            assert await late.result(timeout=9) == 1

    asyncio.run(run())


def test_a_worker_outlasts_the_loss_of_every_session_again_and_again(database: str) -> None:
    async def run() -> None:
        async with ready(database) as (engine, sql), workers(database, 2) as made:
            handles = [await engine.start(f"w{n}", transfer, 0.0) for n in range(60)]
            for _ in range(5):
                await sql.all(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name ~ 'duress:'"
                )
                await asyncio.sleep(0.02)
            for handle in handles:
                assert await handle.result(timeout=20) == 2
            await exactly_once(sql, 120)
            assert os.getpid() not in {worker.process.pid for worker in made}

    asyncio.run(run())
