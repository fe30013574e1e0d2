"""A connection attempt that nobody answers holds a worker up for no longer than its lease, or a second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import psycopg
from engine_room import PATIENCE_S, opened, working

from duress.engine import Engine, workflow
from duress.faults.postgres import Server

LEASE = 1.0
ALL_TRY = 0.8  # seconds in which each of its connections has been tried again
HELD_UP = 3.5  # seconds: an attempt, a pause before the next, and the work; an attempt of 5 s alone is longer


@dataclass(slots=True)
class Way:
    """Leads to a server. While it is `silent` it takes connections and says nothing on them, now or later."""

    dsn: str = ""
    silent: bool = False
    swallowed: int = 0


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
    writer.close()


@asynccontextmanager
async def way(server: Server, dsn: str, folder: Path) -> AsyncIterator[Way]:
    made, ended = Way(), asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if made.silent:
            made.swallowed += 1
            await ended.wait()
            writer.close()
            return
        there, back = await asyncio.open_unix_connection(server.socket_directory / f".s.PGSQL.{server.port}")
        await asyncio.gather(carry(reader, back), carry(there, writer), return_exceptions=True)

    async with await asyncio.start_unix_server(take, folder / ".s.PGSQL.5432"):
        made.dsn = psycopg.conninfo.make_conninfo(dsn, host=folder, port=5432)
        yield made
        ended.set()


@workflow(name="connecting: one")
async def one() -> int:
    return 1


def test_a_silent_server_is_asked_again_soon(server: Server, database: str, tmp_path: Path) -> None:
    async def run(led: Way, client: Engine, engine: Engine) -> None:
        async with working(engine, lease=LEASE, heartbeat=0.2, poll=0.1):
            assert await (await client.start("first", one)).result() == 1
            answered = await held_up(led, database)
            assert await (await client.start("second", one)).result() == 1
            assert monotonic() - answered < HELD_UP

    async def go() -> None:
        async with way(server, database, tmp_path) as led, opened(database) as client, opened(led.dsn) as engine:
            await run(led, client, engine)

    asyncio.run(go())


async def held_up(led: Way, database: str) -> float:
    """Every session of the worker ends, and its next attempt is swallowed; the moment from which it is answered again."""
    led.silent = True
    async with asyncio.timeout(PATIENCE_S):
        while not led.swallowed:
            await terminate(database)
            await asyncio.sleep(0.02)
        await asyncio.sleep(ALL_TRY)
    led.silent = False
    return monotonic()


async def terminate(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as admin:
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name ~ '^duress:([0-9]+|joining)$'"
        )
