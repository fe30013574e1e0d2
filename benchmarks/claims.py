"""Does claiming stay fast behind a long history? The engine's claim function on 1,000 pending workflows, fresh and
after 100,000 completed.

All workflows go through the engine: started by a client, claimed, one step, finished. The fresh schema is in a
database of its own, and both are sampled in turns, so that whatever disturbs the machine disturbs both. Autovacuum is
as it is by default. With an old snapshot held (a repeatable read transaction opened before all of it) no dead row can
be removed, which is what slows a naive queue.

Three claims are timed one by one, each rolled back so that the next finds the same: of one workflow and of a hundred
as a busy worker asks for them, and the full look that a worker takes once per poll interval. The fourth figure is the
mean of what a real worker's own claims took while it drained the 1,000 (pg_stat_statements).
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg.types.numeric import Int4, Int8

from benchmarks.peers_part import Say
from benchmarks.result import Claim, Claims
from duress.engine import Engine, step, workflow
from duress.faults.postgres import Server
from duress.reports import statistics

PENDING = 1_000
_AHEAD = 2_000  # workflows started before their turn while the history is made
_STARTERS = 64
_WARM_UP = 10  # samples that plan and fill caches
_STUCK_S = 60.0  # without any progress
_PAGE_BYTES = 4_000_000

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
# What a worker asks: (name, room, full, samples). Few large ones: each leaves a hundred rolled-back row versions.
CALLS = (("one workflow", 1, False, 400), ("a hundred", 100, False, 50), ("one, the full look of a poll", 1, True, 400))
WORKER_CALL = "a worker's own while it drained them"

_ended: Counter[str] = Counter()  # bodies, by database


@step
async def noop(number: int) -> int:
    """Does nothing."""
    return number


@workflow
async def single(database: str, number: int) -> int:
    """One step."""
    await noop(number)
    _ended[database] += 1
    return number


def measure_claims(server: Server, completed: int, *, snapshot_held: bool, say: Say) -> Claims:
    """On two fresh databases. Raises RuntimeError when the engine did not complete what it accepted."""
    databases = ("bench_claims_fresh", "bench_claims_after")
    for database in databases:
        server.create_database(database)
        _ended[database] = 0
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create extension if not exists pg_stat_statements")
    say(f"claiming before and after {completed:,} workflows, {'with' if snapshot_held else 'without'} an old snapshot")
    found = asyncio.run(_measure(server, databases, completed, snapshot_held))
    for database in databases:
        server.drop_database(database)
    return found


async def _measure(server: Server, databases: tuple[str, str], completed: int, snapshot_held: bool) -> Claims:
    async with (
        _opened(server, databases[0]) as fresh,
        _opened(server, databases[1]) as after,
        _old_snapshot(after.dsn) if snapshot_held else contextlib.nullcontext(),
    ):
        began = time.perf_counter()
        async with _worker(after.dsn):
            await after.run(completed)
        completed_in_s = time.perf_counter() - began
        await after.check()
        dead_rows = await _dead_rows(after)
        await fresh.start(PENDING)
        await after.start(PENDING)
        samples = await _sample(fresh, after)
        workers = [await _drain_watched(server.dsn(), history) for history in (fresh, after)]
    return Claims(
        completed=completed,
        pending=PENDING,
        snapshot_held=snapshot_held,
        completed_in_s=completed_in_s,
        dead_rows=dead_rows,
        claims=[
            *(_compared(name, samples[fresh, name], samples[after, name]) for name, *_ in CALLS),
            _worker_compared(*workers),
        ],
    )


class History:
    """A database, and the workflows started and completed in it through the engine."""

    def __init__(self, dsn: str, database: str, client: Engine, connection: Connection) -> None:
        self.dsn = dsn
        self.database = database
        self.connection = connection
        self._client = client
        self._started = 0

    async def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """What a query answers."""
        return await (await self.connection.execute(query.encode(), arguments)).fetchall()

    async def start(self, count: int) -> None:
        """Start that many more; returns when all are durable."""
        numbers = iter(range(self._started, self._started + count))
        self._started += count

        async def lane() -> None:
            for number in numbers:
                while number - _ended[self.database] > _AHEAD:  # noqa: ASYNC110 a hundred lanes, no event each
                    await asyncio.sleep(0.01)
                await self._client.start(f"single-{number}", single, self.database, number)

        await asyncio.gather(*(lane() for _ in range(_STARTERS)))

    async def run(self, count: int) -> None:
        """Start that many more and wait until a worker has brought all to their end."""
        starting = asyncio.ensure_future(self.start(count))
        seen, since = -1, time.monotonic()
        while not starting.done():
            await asyncio.wait({starting}, timeout=0.5)
            if _ended[self.database] != seen:
                seen, since = _ended[self.database], time.monotonic()
            elif time.monotonic() - since > _STUCK_S:
                raise RuntimeError(f"no workflow ended for {_STUCK_S:.0f} s; {seen} had; see the engine's log")
        await starting
        await self.drained()

    async def drained(self) -> None:
        """Wait until no workflow is unfinished in the database."""
        seen, since = -1, time.monotonic()
        while left := (await self.rows("select count(*) from duress.live"))[0][0]:
            if left != seen:
                seen, since = left, time.monotonic()
            elif time.monotonic() - since > _STUCK_S:
                raise RuntimeError(f"{left} of {self._started} workflows did not end; see the engine's log")
            await asyncio.sleep(0.05)

    async def check(self) -> None:
        """All that was started has succeeded, by the tables."""
        rows = await self.rows("select status, count(*) from duress.workflow group by status")
        if dict(rows) != {"succeeded": self._started}:
            raise RuntimeError(f"{self._started} workflows were started, the table says {dict(rows)}")


@contextlib.asynccontextmanager
async def _opened(server: Server, database: str) -> AsyncIterator[History]:
    dsn = server.dsn(database)
    async with Engine(dsn) as client, await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await client.migrate()
        yield History(dsn, database, client, connection)


@contextlib.asynccontextmanager
async def _old_snapshot(dsn: str) -> AsyncIterator[None]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await connection.execute("select count(*) from duress.live")
        yield
        await connection.rollback()


@contextlib.asynccontextmanager
async def _worker(dsn: str) -> AsyncIterator[None]:
    async with Engine(dsn) as engine:
        working = asyncio.ensure_future(engine.work(name="bench"))
        yield
        engine.stop()
        await working


async def _drain_watched(statistics_dsn: str, history: History) -> tuple[int, float]:
    """Let a worker drain what is pending; the number of its claims and their mean milliseconds on the server."""
    query = (
        "select coalesce(sum(calls), 0)::bigint, coalesce(sum(total_exec_time), 0) from pg_stat_statements s"
        " join pg_database d on d.oid = s.dbid where d.datname = %s and query like '%%.claim_v%%'"
    )
    async with await psycopg.AsyncConnection.connect(statistics_dsn, autocommit=True) as connection:
        await connection.execute("select pg_stat_statements_reset()")
        async with _worker(history.dsn):
            await history.drained()
            row = await (await connection.execute(query, (history.database,))).fetchone()
    assert row is not None
    return row[0], row[1] / row[0]


async def _sample(*histories: History) -> dict[tuple[History, str], list[float]]:
    """Milliseconds of each claim of CALLS in each database, in turns, as a worker that has joined and runs nothing."""
    samplers = [await _Sampler.join(history) for history in histories]
    found: dict[tuple[History, str], list[float]] = {}
    for number in range(_WARM_UP + max(samples for *_, samples in CALLS)):
        for name, room, full, samples in CALLS:
            for sampler in samplers:
                if number < _WARM_UP + samples:
                    spent_ms = await sampler.claim_and_roll_back(room, full=full)
                    if number >= _WARM_UP:
                        found.setdefault((sampler.history, name), []).append(spent_ms)
    for sampler in samplers:
        await sampler.leave()
    return found


class _Sampler:
    """A worker's row, for which claims can be made."""

    def __init__(self, history: History, function: str, parameters: list[str], given: dict[str, object]) -> None:
        self.history = history
        self._given = given
        self._parameters = parameters
        self._statement = f"select * from {function}({', '.join(f'{name} => %({name})s' for name in parameters)})"

    @classmethod
    async def join(cls, history: History) -> "_Sampler":
        """Join as a worker that runs nothing. Raises RuntimeError when claims need what this benchmark does not know."""
        rows = await history.rows("select incarnation from duress.join_v1('sampler', 3600, false, 20)")
        names = await history.rows("select array_agg(distinct name) from duress.live")
        given: dict[str, object] = {
            "p_owner": Int8(rows[0][0]),
            "p_queues": ["default"],
            "p_names": names[0][0],
            "p_bytes": Int4(_PAGE_BYTES),
        }
        newest = await history.rows(
            "select oid::regproc::text, proargnames[:pronargs] from pg_proc where pronamespace = 'duress'::regnamespace"
            " and proname ~ '^claim_v[0-9]+$' order by length(proname) desc, proname desc limit 1"
        )
        function, parameters = newest[0]
        if unknown := set(parameters) - given.keys() - {"p_room", "p_full", "p_held"}:
            raise RuntimeError(f"{function} has parameters that this benchmark does not know: {', '.join(unknown)}")
        sampler = cls(history, function, parameters, given)
        # What a worker's poll does each second: afterwards the claims know where to begin.
        await sampler._claim(0, full=True)
        return sampler

    async def claim_and_roll_back(self, room: int, *, full: bool) -> float:
        """One claim; its milliseconds."""
        async with self.history.connection.transaction(force_rollback=True):
            began = time.perf_counter()
            claimed = await self._claim(room, full=full)
            spent_ms = (time.perf_counter() - began) * 1e3
        if claimed != room:
            raise RuntimeError(f"a claim of {room} brought {claimed} of {PENDING} pending workflows")
        return spent_ms

    async def leave(self) -> None:
        await self.history.rows("select duress.leave_v1(%s)", self._given["p_owner"])

    async def _claim(self, room: int, *, full: bool) -> int:
        # p_held, the workflows that run here, goes with the full look.
        asked = {**self._given, "p_room": Int4(room), "p_full": full, "p_held": [] if full else None}
        arguments = {name: asked[name] for name in self._parameters}
        cursor = await self.history.connection.execute(self._statement.encode(), arguments, prepare=True)
        return len(await cursor.fetchall()) - 1  # the first row is a header


async def _dead_rows(history: History) -> int:
    rows = await history.rows("select n_dead_tup from pg_stat_user_tables where relid = 'duress.live'::regclass")
    return int(rows[0][0])


def _compared(name: str, fresh: list[float], after: list[float]) -> Claim:
    fresh_ms, after_ms = statistics.median(fresh), statistics.median(after)
    return Claim(
        call=name,
        statistic="median",
        n_fresh=len(fresh),
        n_after=len(after),
        fresh_ms=fresh_ms,
        after_ms=after_ms,
        slowdown=after_ms / fresh_ms,
    )


def _worker_compared(fresh: tuple[int, float], after: tuple[int, float]) -> Claim:
    return Claim(
        call=WORKER_CALL,
        statistic="mean",
        n_fresh=fresh[0],
        n_after=after[0],
        fresh_ms=fresh[1],
        after_ms=after[1],
        slowdown=after[1] / fresh[1],
    )
