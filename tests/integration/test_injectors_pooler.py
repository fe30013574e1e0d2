"""A worker is led through PgBouncer in transaction mode for a while, and back; nobody else is, and nothing is left."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
from injected_workers import now, state
from machine import needs

from duress.faults.injectors.patience import Patience
from duress.faults.injectors.procs import ProcsInjector
from duress.faults.injectors.target import WorkerProcess
from duress.faults.journal import Journal
from duress.faults.needs import no_pooler
from duress.faults.plan import Pooler
from duress.faults.postgres import Server
from duress.faults.proxy import open_proxy

pytestmark = needs("pgbouncer", no_pooler())


@dataclass
class Led:
    """A Target whose worker is the test itself."""

    server: Server
    dsn: str
    network: Any
    links: dict[int, str]
    pair = contention = None

    def link(self, worker: int) -> str:
        return self.links[worker]

    def process(self, worker: int) -> WorkerProcess | None:
        return None

    async def respawn(self, worker: int) -> None:
        raise AssertionError("no process is struck here")

    async def primary_lost(self) -> None:
        raise AssertionError("nothing fails over here")


async def pooled(dsn: str) -> bool:
    """Whether a pooler stands in between: who greets is not who answers."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        row = await (await connection.execute("select pg_backend_pid()")).fetchone()
        return row is not None and row[0] != connection.info.backend_pid


async def knock(dsn: str) -> None:
    """What a worker does: connect again and again."""
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            await pooled(dsn)
        await asyncio.sleep(0.01)


def test_a_worker_is_led_through_a_pooler_and_back(server: Server, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with open_proxy() as proxy:
            links = {worker: await proxy.listen(worker, database) for worker in (0, 1)}
            target = Led(server, database, proxy, links)
            journal = Journal(tmp_path)
            patience = Patience(effect=5.0)
            async with ProcsInjector(target, clock=monotonic, journal=journal, patience=patience) as injector:
                assert not await pooled(links[0])
                before = await psycopg.AsyncConnection.connect(links[0], autocommit=True)
                knocking = asyncio.create_task(knock(links[0]))
                injection = await injector.inject(now(Pooler(duration=600)), 0)
                assert injection.fired and "login attempt: db=test_" in str(injection.confirmed_by)
                with contextlib.suppress(psycopg.OperationalError):
                    await before.execute("select 1")
                assert before.closed, "what it had was reset"
                assert await pooled(links[0]) and not await pooled(links[1])
                knocking.cancel()
                await injection.heal()
                assert not await pooled(links[0])
                pid = int(str(injection.confirmed_by).rpartition("process ")[2].split()[0])
                assert state(pid) in ("", "Z")

    asyncio.run(run())


def test_a_worker_that_does_not_connect_is_led_nowhere(server: Server, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with open_proxy() as proxy:
            links = {0: await proxy.listen(0, database)}
            target = Led(server, database, proxy, links)
            patience = Patience(effect=0.3)
            async with ProcsInjector(target, clock=monotonic, journal=Journal(tmp_path), patience=patience) as injector:
                injection = await injector.inject(now(Pooler(duration=600)), 0)
                assert not injection.fired and "made no connection" in str(injection.reason)
                assert not await pooled(links[0])

    asyncio.run(run())
