"""SIGKILL to the first new checkpoint of an affected workflow, over many kills of real worker processes.

Four workers with the engine's default settings run no-op steps. A victim is killed only while at least 50 workflows
are in flight and at least 5 of them are its own; every third kill takes two ring neighbours at once. From the kill()
call to the row's clock_timestamp(): both are this machine's real-time clock. A workflow is affected if the victim
owned it (duress.live.owner) at the kill.
"""

import asyncio
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.environment import REPOSITORY
from benchmarks.kill_workload import long_haul
from benchmarks.peers_part import Say
from benchmarks.result import Kill, Kills, summarise_kills
from duress.engine import Engine
from duress.faults.postgres import Server

WORKERS = 4
LEAST_IN_FLIGHT = 50
LEAST_OWNED = 5
IN_FLIGHT = 72  # kept up, so that 50 are left while a victim's are on their way
STEPS = 20
GAPS_S = (0.1, 0.3)
GIVE_UP_S = 30.0  # no new checkpoint for so long counts as never
SETTLE_S = 0.25  # before looking, so that looking disturbs no recovery
READY_TIMEOUT_S = 60.0

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


@dataclass(slots=True)
class Worker:
    """One worker process and what the database calls it."""

    name: str
    process: subprocess.Popen[bytes]
    incarnation: int = 0


def measure_kills(server: Server, count: int, seed: int, say: Say) -> Kills:
    """`count` kills on a fresh database. Raises RuntimeError when a worker ends by itself or has too little to do."""
    server.create_database("bench_kills")
    say(f"{count} kills, {WORKERS} workers")
    with tempfile.TemporaryDirectory(prefix="duress-bench-") as folder:
        kills = asyncio.run(_measure(server.dsn("bench_kills"), count, random.Random(seed), Path(folder), say))
    server.drop_database("bench_kills")
    return summarise_kills(kills)


async def _measure(dsn: str, count: int, choices: random.Random, logs: Path, say: Say) -> list[Kill]:
    kills: list[Kill] = []
    async with Engine(dsn) as client, await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await client.migrate()
        fleet = Fleet(dsn, connection, logs)
        feeding = asyncio.ensure_future(_feed(client, connection, choices))
        try:
            await fleet.fill()
            for number in range(count):
                if feeding.done():
                    feeding.result()
                victims, owned, in_flight = await fleet.pick(2 if number % 3 == 2 else 1, choices)
                kills.append(await fleet.kill(victims, owned, in_flight))
                await fleet.fill()
                if (number + 1) % 10 == 0:
                    say(f"{number + 1} kills, the last first checkpoint after {kills[-1].first_ms:.1f} ms")
        finally:
            feeding.cancel()
            fleet.end()
    return kills


async def _feed(client: Engine, connection: Connection, choices: random.Random) -> None:
    """Start new workflows as others finish."""
    number = 0
    while True:
        row = await (await connection.execute("select count(*) from duress.live")).fetchone()
        assert row is not None
        for _ in range(IN_FLIGHT - row[0]):
            number += 1
            own_id = f"haul-{number}"
            await client.start(own_id, long_haul, own_id, STEPS, choices.uniform(*GAPS_S))
        await asyncio.sleep(0.1)


class Fleet:
    """The worker processes; replaces those that are killed, under new names."""

    def __init__(self, dsn: str, connection: Connection, logs: Path) -> None:
        self._dsn = dsn
        self._connection = connection
        self._logs = logs
        self._born = 0
        self._workers: list[Worker] = []

    async def fill(self) -> None:
        """Start workers until there are enough, and wait until each has joined."""
        while len(self._workers) < WORKERS:
            self._workers.append(self._spawn())
        deadline = time.monotonic() + READY_TIMEOUT_S
        while missing := [worker for worker in self._workers if not worker.incarnation]:
            self._check_alive(deadline, f"{', '.join(worker.name for worker in missing)} did not join")
            rows = await self._rows("select name, incarnation from duress.worker where ended_at is null")
            incarnations = dict(rows)
            for worker in missing:
                worker.incarnation = incarnations.get(worker.name, 0)
            await asyncio.sleep(0.02)

    async def pick(self, count: int, choices: random.Random) -> tuple[list[Worker], dict[int, list[int]], int]:
        """Victims that may be killed this moment, the workflows that each worker owns, and how many are in flight.

        Waits a random part of a second first, so that the moment has nothing to do with heartbeats, polls and joining.
        """
        await asyncio.sleep(choices.random())
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            ring = sorted(self._workers, key=lambda worker: worker.incarnation)
            first = choices.randrange(len(ring))
            victims = [ring[(first + place) % len(ring)] for place in range(count)]
            owned = dict(
                await self._rows(
                    "select owner, array_agg(number) from duress.live where owner is not null group by owner"
                )
            )
            in_flight = sum(len(owned.get(worker.incarnation, [])) for worker in ring)
            if in_flight >= LEAST_IN_FLIGHT and all(
                len(owned.get(victim.incarnation, [])) >= LEAST_OWNED for victim in victims
            ):
                return victims, owned, in_flight
            self._check_alive(
                deadline,
                f"{in_flight} workflows in flight, {[(w.name, len(owned.get(w.incarnation, []))) for w in ring]}",
            )
            await asyncio.sleep(0.02)

    async def kill(self, victims: list[Worker], owned: dict[int, list[int]], in_flight: int) -> Kill:
        """Kill them at once and read from the database when each one's work went on."""
        killed_at = time.time()
        for victim in victims:
            os.kill(victim.process.pid, signal.SIGKILL)
        for victim in victims:
            victim.process.wait()
            self._workers.remove(victim)
        incarnations = [victim.incarnation for victim in victims]
        firsts = await self._firsts(killed_at, {incarnation: owned[incarnation] for incarnation in incarnations})
        ended = await self._rows(
            "select extract(epoch from max(ended_at))::float8, string_agg(distinct end_reason, '+') from duress.worker"
            " where incarnation = any(%s) having count(ended_at) = count(*)",
            incarnations,
        )
        return Kill(
            victims=incarnations,
            in_flight=in_flight,
            affected=[len(owned[incarnation]) for incarnation in incarnations],
            first_ms=max(firsts.values()),
            first_of_any_ms=min(firsts.values()),
            noticed_ms=(ended[0][0] - killed_at) * 1e3 if ended else None,
            reason=ended[0][1] if ended else "never",
        )

    async def _firsts(self, killed_at: float, affected: dict[int, list[int]]) -> dict[int, float]:
        """Victim → milliseconds from the kill to the first checkpoint that another wrote for one of its workflows.

        A victim's own last statement may commit after the kill: such rows carry its incarnation and do not count.
        """
        firsts = dict.fromkeys(affected, math.inf)
        deadline = time.monotonic() + GIVE_UP_S
        while math.inf in firsts.values() and time.monotonic() < deadline:
            await asyncio.sleep(SETTLE_S)
            for victim, numbers in affected.items():
                rows = await self._rows(
                    "select extract(epoch from min(at))::float8 from duress.checkpoint"
                    " where number = any(%s) and owner <> all(%s) and at >= to_timestamp(%s)",
                    numbers,
                    list(affected),
                    killed_at,
                )
                if rows[0][0] is not None:
                    firsts[victim] = (rows[0][0] - killed_at) * 1e3
        return firsts

    def end(self) -> None:
        """Kill what is left."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()

    def _spawn(self) -> Worker:
        self._born += 1
        name = f"w{self._born}"
        with (self._logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.kill_worker", self._dsn, name],
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )
        return Worker(name, process)

    def _check_alive(self, deadline: float, waiting_for: str) -> None:
        for worker in self._workers:
            if (status := worker.process.poll()) is not None:
                said = (self._logs / f"{worker.name}.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"worker {worker.name} ended by itself with {status}:\n{said}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the fleet was not ready for a kill within {READY_TIMEOUT_S:.0f} s: {waiting_for}")

    async def _rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        return await (await self._connection.execute(query.encode(), arguments)).fetchall()
