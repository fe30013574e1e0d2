"""Round trips, counted by the server: statements in pg_stat_statements, BEGIN and COMMIT included.

What an idle worker sends anyway (heartbeat, looking for work) is measured first; its statements are left out of the
rest, except claims, from which the idle rate is taken off. Everything is found by differences between workloads, not
by reading the engine.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from benchmarks.peers_part import Say
from benchmarks.result import Trips
from duress.engine import Engine, step, transaction, workflow
from duress.faults.postgres import Server

DATABASE = "bench_trips"
WORKFLOWS = 20
STEPS = 20
AT_ONCE = 64
STEPS_AT_ONCE = 10
_IDLE_S = 6.0
_SETTLE_S = 0.2  # after a body has ended, for its outcome to be written
_CLAIM = re.compile(r"\bclaim")

Counts = dict[str, int]  # statement → calls
_ended = asyncio.Event()
_left = 0


@step
async def noop(number: int) -> int:
    """Does nothing."""
    return number


@transaction
async def insert(tx: psycopg.AsyncConnection[Any], number: int) -> int:
    """One statement of the user's own."""
    await tx.execute("insert into effect (number) values (%s)", (number,))
    return number


@workflow
async def with_steps(steps: int) -> int:
    """Plain steps."""
    for number in range(steps):
        await noop(number)
    _body_ended()
    return steps


@workflow
async def with_transactions(steps: int) -> int:
    """Transaction steps."""
    for number in range(steps):
        await insert(number)
    _body_ended()
    return steps


def measure_trips(server: Server, say: Say) -> Trips:
    """On a fresh database; everything runs in this process, so nothing else talks to that database."""
    say("counting round trips")
    server.create_database(DATABASE)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create extension if not exists pg_stat_statements")
    with psycopg.connect(server.dsn(DATABASE), autocommit=True) as connection:
        connection.execute("create table effect (number bigint not null)")
    found = asyncio.run(_measure(server))
    server.drop_database(DATABASE)
    return found


async def _measure(server: Server) -> Trips:
    dsn = server.dsn(DATABASE)
    # Counted from another database, so that the counting is not counted.
    async with (
        Engine(dsn) as client,
        await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True) as connection,
    ):
        await client.migrate()
        await client.start("warm-up", with_steps, 0)  # connects and checks the schema once
        counter = Counter(connection)
        counted: dict[str, Counts] = {}
        counted["start"], _ = await counter.during(lambda: _start(client, "early", with_steps, 1, WORKFLOWS))
        async with Engine(dsn) as engine:
            working = asyncio.ensure_future(engine.work(name="bench"))
            await asyncio.sleep(2 * _IDLE_S / 3)  # until what was started has ended and the worker has settled
            counted["idle"], idle_s = await counter.during(lambda: asyncio.sleep(_IDLE_S))
            counted["empty"], empty_s = await counter.during(lambda: _one_by_one(client, "empty", with_steps, 0))
            counted["steps"], _ = await counter.during(lambda: _one_by_one(client, "steps", with_steps, STEPS))
            counted["transactions"], _ = await counter.during(
                lambda: _one_by_one(client, "tx", with_transactions, STEPS)
            )
            counted["at once"], _ = await counter.during(lambda: _at_once(client))
            engine.stop()
            await working
    return _trips(counted, idle_s, empty_s)


def _trips(counted: dict[str, Counts], idle_s: float, empty_s: float) -> Trips:
    background = set(counted["idle"])

    def calls(what: str, like: str = "") -> int:
        return sum(count for text, count in counted[what].items() if text not in background and like in text)

    start = calls("start") / WORKFLOWS
    claims = sum(count for text, count in counted["empty"].items() if _CLAIM.search(text))
    idle_claims = sum(count for text, count in counted["idle"].items() if _CLAIM.search(text))
    return Trips(
        start=start,
        claim=max(0.0, claims - idle_claims / idle_s * empty_s) / WORKFLOWS,
        step=(calls("steps") - calls("empty")) / (WORKFLOWS * STEPS),
        transaction_step=(calls("transactions") - calls("empty")) / (WORKFLOWS * STEPS),
        complete=calls("empty") / WORKFLOWS - start,
        step_at_64=calls("at once", ".checkpoint") / (AT_ONCE * STEPS_AT_ONCE),
        start_at_64=calls("at once", ".start") / AT_ONCE,
        complete_at_64=calls("at once", ".finish") / AT_ONCE,
        idle_per_s=sum(counted["idle"].values()) / idle_s,
        statements=counted,
    )


class Counter:
    """Reads pg_stat_statements for one database."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        self._connection = connection

    async def during(self, work: Callable[[], Awaitable[None]]) -> tuple[Counts, float]:
        """The statements that reached the database while `work` ran, and the seconds it ran."""
        await self._connection.execute("select pg_stat_statements_reset()")
        began = time.monotonic()
        await work()
        spent = time.monotonic() - began
        cursor = await self._connection.execute(
            "select s.query, sum(s.calls)::bigint from pg_stat_statements s join pg_database d on d.oid = s.dbid"
            " where d.datname = %s and s.toplevel group by s.query order by 2 desc",
            (DATABASE,),
        )
        return {str(query): int(count) for query, count in await cursor.fetchall()}, spent


def _body_ended() -> None:
    global _left
    _left -= 1
    if _left <= 0:
        _ended.set()


def _expect(workflows: int) -> None:
    global _left
    _left = workflows
    _ended.clear()


async def _start(client: Engine, prefix: str, definition: Any, steps: int, workflows: int) -> None:
    for number in range(workflows):
        await client.start(f"{prefix}-{number}", definition, steps)


async def _one_by_one(client: Engine, prefix: str, definition: Any, steps: int) -> None:
    """Nothing else runs: the next is started when the previous has long ended."""
    for number in range(WORKFLOWS):
        _expect(1)
        await client.start(f"{prefix}-{number}", definition, steps)
        await _ended.wait()
        await asyncio.sleep(_SETTLE_S)


async def _at_once(client: Engine) -> None:
    _expect(AT_ONCE)
    await asyncio.gather(*(client.start(f"at-once-{number}", with_steps, STEPS_AT_ONCE) for number in range(AT_ONCE)))
    await _ended.wait()
    await asyncio.sleep(_SETTLE_S)
