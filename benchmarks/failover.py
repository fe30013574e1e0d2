"""Failovers by SIGKILL of the primary under load: what was acknowledged and is missing, and how soon things go on.

`python -m benchmarks.failover [--failovers N]`. Committers insert rows one by one and keep what they were told: the row and
its transaction id. A worker of the engine runs workflows of many steps, and keeps which checkpoints it was told. When the
primary is lost, the standby is read before it takes any writes, and what was acknowledged is looked for there: by row, by
transaction id (pg_xact_status), and checkpoint by checkpoint. `sync`: nothing may be missing. `async`, with 50 ms on the
replication link: what is missing is counted, each way by itself.
"""

import argparse
import asyncio
import contextlib
import logging
import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from duress.engine import Engine, step, workflow
from duress.engine.observer import CHECKPOINTED
from duress.faults.postgres.pair import Mode, Pair

COMMITTERS: Final = 4
WORKFLOWS: Final = 20
STEPS: Final = 400
LOAD: Final = 1.5  # seconds of load before the primary is lost
AFTERWARDS: Final = 0.7  # and after the first progress
LATENCY: Final[dict[Mode, float]] = {"sync": 0.0, "async": 0.05}
GOING_ON: Final = 30.0  # seconds until things must go on


@step
async def count(number: int) -> int:
    return number


@workflow(name="bench: failover")
async def counting(steps: int) -> int:
    for number in range(steps):
        await count(number)
    return steps


@dataclass
class Acknowledged:
    """What was told, with the moment."""

    rows: list[tuple[float, int, int]] = field(default_factory=list)  # moment, row, transaction id
    checkpoints: list[tuple[float, str, str]] = field(default_factory=list)  # moment, workflow, step

    def point(self, name: str, facts: dict[str, Any]) -> None:
        """An engine observer."""
        if name == CHECKPOINTED:
            self.checkpoints.append((time.monotonic(), str(facts["workflow"]), str(facts["step"])))


@dataclass(frozen=True)
class Trial:
    """One failover."""

    commits_per_s: float
    acknowledged: int
    missing_rows: int
    missing_xids: int
    checkpoints: int
    missing_checkpoints: int
    out_of_order: int  # checkpoints at the end that stand on a later one
    promoted: float  # seconds from the SIGKILL
    committed: float  # until the first commit, by whoever
    went_on: float  # until the engine's first checkpoint


async def trial(mode: Mode) -> Trial:
    pair = await asyncio.to_thread(Pair.start, mode, latency=LATENCY[mode])
    try:
        return await _under_load(pair)
    finally:
        await asyncio.to_thread(pair.close)


async def _under_load(pair: Pair) -> Trial:
    told = Acknowledged()
    async with Engine(pair.dsn(), observer=told) as engine:
        await engine.migrate()
        async with await psycopg.AsyncConnection.connect(pair.dsn(), autocommit=True) as connection:
            await connection.execute("create table probe (n bigint)")
        async with asyncio.TaskGroup() as load:
            tasks = [load.create_task(_commit(pair.dsn(), number, told)) for number in range(COMMITTERS)]
            tasks.append(load.create_task(engine.work(lease=2.0, heartbeat=0.4, poll=0.2)))
            for number in range(WORKFLOWS):
                await engine.start(f"w{number}", counting, STEPS)
            began = time.monotonic()
            await asyncio.sleep(LOAD)
            rate = len(told.rows) / (time.monotonic() - began)
            found = await _fail_over(pair, told)
            for task in tasks:
                task.cancel()
        async with await psycopg.AsyncConnection.connect(pair.dsn()) as connection:
            row = await (await connection.execute(OUT_OF_ORDER)).fetchone()
        assert row is not None
        return Trial(commits_per_s=rate, out_of_order=row[0], **found)


async def _fail_over(pair: Pair, told: Acknowledged) -> dict[str, Any]:
    killed = time.monotonic()
    await asyncio.to_thread(pair.lose_primary)
    # All that was said before has been heard by now; nothing can be said before the promotion.
    rows, checkpoints = list(told.rows), list(told.checkpoints)
    async with await psycopg.AsyncConnection.connect(pair.standby.dsn(), autocommit=True) as standby:
        there = {row[0] for row in await (await standby.execute("select n from probe")).fetchall()}
        stands = set(await (await standby.execute(CHECKPOINTS)).fetchall())
        known = [xid for _, _, xid in rows]
        committed = await (await standby.execute(COMMITTED, [known])).fetchone()
    assert committed is not None
    await asyncio.to_thread(pair.promote)
    promoted = time.monotonic() - killed
    async with asyncio.timeout(GOING_ON):
        while not (told.rows[len(rows) :] and told.checkpoints[len(checkpoints) :]):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    first_commit, first_step = told.rows[len(rows)][0] - killed, told.checkpoints[len(checkpoints)][0] - killed
    await asyncio.sleep(AFTERWARDS)
    return {
        "acknowledged": len(rows),
        "missing_rows": sum(n not in there for _, n, _ in rows),
        "missing_xids": len(rows) - committed[0],
        "checkpoints": len(checkpoints),
        "missing_checkpoints": sum((id_, name) not in stands for _, id_, name in checkpoints),
        "promoted": promoted,
        "committed": first_commit,
        "went_on": first_step,
    }


async def _commit(dsn: str, number: int, told: Acknowledged) -> None:
    """Insert rows one by one, for ever; one whose fate is not known is not inserted again."""
    n = number
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                while True:
                    n += COMMITTERS
                    row = await (await connection.execute(INSERT, [n])).fetchone()
                    assert row is not None
                    told.rows.append((time.monotonic(), n, row[0]))
        await asyncio.sleep(0.005)


INSERT: Final = "insert into probe values (%s) returning pg_current_xact_id()::text::bigint"
CHECKPOINTS: Final = "select w.id, c.step from duress.checkpoint c join duress.workflow w on w.number = c.number"
COMMITTED: Final = """
    select count(*) from unnest(%s::bigint[]) as told (xid)
    where told.xid::text::xid8 < pg_snapshot_xmax(pg_current_snapshot())
      and case when told.xid::text::xid8 < pg_snapshot_xmax(pg_current_snapshot())
               then pg_xact_status(told.xid::text::xid8) = 'committed' end
"""
OUT_OF_ORDER: Final = """
    select count(*) from (
        select c.at < lag(c.at) over (partition by c.number order by c.step::int) as earlier from duress.checkpoint c
    ) s where s.earlier
"""


async def measure(failovers: int) -> int:
    """Print both tables; the exit code is 1 if anything that must hold does not."""
    wrong = 0
    for mode in ("sync", "async"):
        print(f"{mode}: {LATENCY[mode] * 1000:.0f} ms on the replication link")  # type: ignore[index]
        print(
            "  #  commits/s  acked  missing rows/xids  checkpoints  missing  promoted  first commit  first checkpoint"
        )
        trials = []
        for number in range(1, failovers + 1):
            one = await trial(mode)  # type: ignore[arg-type]
            trials.append(one)
            print(
                f"{number:3d}  {one.commits_per_s:9.0f}  {one.acknowledged:5d}  {one.missing_rows:8d} / {one.missing_xids:<6d}"
                f"  {one.checkpoints:11d}  {one.missing_checkpoints:7d}  {one.promoted * 1000:5.0f} ms"
                f"  {one.committed * 1000:9.0f} ms  {one.went_on * 1000:13.0f} ms",
                flush=True,
            )
            equal = one.missing_rows == one.missing_xids
            nothing = not (one.missing_rows or one.missing_checkpoints)
            wrong += not equal or one.out_of_order > 0 or (mode == "sync" and not nothing)
        lossy = sum(one.missing_rows > 0 for one in trials)
        progress = statistics.median(one.went_on for one in trials)
        print(
            f"  losses in {lossy} of {failovers}, rows {sum(one.missing_rows for one in trials)} ="
            f" xids {sum(one.missing_xids for one in trials)}, checkpoints {sum(one.missing_checkpoints for one in trials)},"
            f" none on top of a lost one: {not any(one.out_of_order for one in trials)};"
            f" first checkpoint after {progress * 1000:.0f} ms (median)"
        )
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Failovers under load: recovery point and time.")
    parser.add_argument("--failovers", type=int, default=20)
    logging.getLogger("duress.engine").setLevel(logging.CRITICAL)  # a worker's view of an outage
    return asyncio.run(measure(parser.parse_args().failovers))


if __name__ == "__main__":
    raise SystemExit(main())
