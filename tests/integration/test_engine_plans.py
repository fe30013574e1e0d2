"""Promise: what a move of the engine costs does not grow with the tables, whatever the planner once believed of them."""

import asyncio
import random

import psycopg

from duress.engine.link import Connector
from duress.engine.migrations import migrate
from duress.engine.store import Checkpoint, Fence, Start, Store

MANY = 30_000
MOST_ROWS = 500  # that one move may look at; it writes a dozen


async def _rows_read(conn: psycopg.AsyncConnection[tuple[int]]) -> int:
    """Rows and index entries that were read in the schema's tables so far."""
    await conn.execute("select pg_stat_clear_snapshot()")
    cursor = await conn.execute(
        """
        select (select sum(seq_tup_read) from pg_stat_user_tables)::bigint
             + (select sum(idx_tup_read) from pg_stat_user_indexes)::bigint
        """
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


class _Moves:
    """Every write of the engine, made on workflows of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.number = 0
        self.ids: dict[int, str] = {}

    async def _claimed(self, count: int) -> list[Fence]:
        starts = [Start(f"own-{self.number + index}", "flow", "own", "{}") for index in range(count)]
        self.number += count
        await asyncio.gather(*(self.store.start(start) for start in starts))
        claims = await self.store.claim(1, ["own"], ["flow"], count, None)
        assert len(claims.workflows) == count
        self.ids = {claimed.number: claimed.id for claimed in claims.workflows}
        return [Fence(1, claimed.number, claimed.epoch, ()) for claimed in claims.workflows]

    async def all(self) -> None:
        fences = await self._claimed(12)
        one, *others = fences
        first = [Checkpoint("1", "noop", "step", False, "1")] * len(fences)
        assert await asyncio.gather(*map(self.store.checkpoint, fences, first))
        known = [Fence(1, fence.number, fence.epoch, ("1",)) for fence in fences]
        second = [Checkpoint("2", "noop", "step", False, "1")] * len(fences)
        answers = await asyncio.gather(*map(self.store.checkpoint, known, second))
        assert {answer for answer, _ in answers} == {"written"}
        await self.store.checkpoint(known[0], Checkpoint("3", "noop", "step", False, "1"))
        await self.store.sleep(known[0], "4", "sleep", 60.0, True)
        await self.store.recorded(one.number, "3")
        await self.store.outcomes([(fence.number, self.ids[fence.number]) for fence in fences])
        await self.store.release(1, [(others[0].number, others[0].epoch, None)])
        await self.store.cancel(self.ids[others[0].number])
        await asyncio.gather(*(self.store.finish(fence, "succeeded", "1") for fence in known[2:]))
        await self.store.claim(1, ["own"], ["flow"], 5, [])


def test_moves_read_few_rows_however_large_the_tables(database: str) -> None:
    asyncio.run(_check(database))


async def _check(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await migrate(conn, "duress")
        for table in ("workflow", "live", "checkpoint", "worker", "queue"):
            # No statistics but those of the empty tables: what a planner may believe for a while after a burst of work.
            await conn.execute(f"alter table duress.{table} set (autovacuum_enabled = off)".encode())
        await conn.execute("select duress.join_v1('w', 600, false, 20)")
        read = await _rows_read_when_large(database, conn)
    assert read < 14 * MOST_ROWS, f"14 moves read {read} rows of tables with {MANY}"


async def _rows_read_when_large(database: str, conn: psycopg.AsyncConnection[tuple[int]]) -> int:
    store = Store(Connector(database, "duress:1"), "duress", random.Random(0), writers=1, deadline=lambda: 30.0)
    moves = _Moves(store)
    try:
        for _ in range(8):  # plans are made, and kept, while the tables are small
            await moves.all()
        await conn.execute(_FILL, {"many": MANY})
        await conn.execute("select pg_stat_force_next_flush()")
        before = await _rows_read(conn)
        await moves.all()
        await conn.execute("select duress.renew_v1(1, 600), duress.take_over_v1(2, 'lease', 20), duress.peer_v1(1)")
    finally:
        await store.close()  # a session's counters are there for certain when it has ended
    while await _sessions(conn):  # noqa: ASYNC110  (the server sends no event for it)
        await asyncio.sleep(0.01)
    await conn.execute("select pg_stat_force_next_flush()")
    return await _rows_read(conn) - before


async def _sessions(conn: psycopg.AsyncConnection[tuple[int]]) -> int:
    cursor = await conn.execute("select count(*) from pg_stat_activity where application_name = 'duress:1'")
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


_FILL = """
with filled as (
    insert into duress.workflow (id, name, queue, input)
    select 'many-' || n, 'flow', 'many', '{}' from generate_series(1, %(many)s) n
    returning number
), alive as (
    insert into duress.live (number, queue, name, ready_at, owner)
    select number, 'many', 'flow', clock_timestamp(), 2 from filled
)
insert into duress.checkpoint (number, step, name, kind, failed, value, owner, epoch)
select number, step, 'noop', 'step', false, '1', 2, 1 from filled, unnest(array['1', '2']) step
"""
