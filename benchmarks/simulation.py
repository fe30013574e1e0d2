"""`python -m benchmarks.simulation SEEDS`: what one core simulates of payments, and what a seed holds.

* seeds and statements a second, and what a seed holds in the median: statements as pg_stat_statements counts them, transfers,
  faults, lock waits, statements held inside;
* how long its statements take on one plain connection to a server that nobody controls: the bytes that each session of the
  run was sent are sent again, session by session, and waited for. What was blocked in the run is not there, so some fail.

Without faults that take the server down, unless `--outages`; then the crash recoveries in its log are counted too.
"""

import asyncio
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import psycopg
from psycopg import Connection

from duress.cli.orders import order_of
from duress.faults.postgres import Server
from duress.scenarios.campaign import Order, draw
from duress.scenarios.sim.refill import Contents, let_grow
from duress.scenarios.sim.token import Reproduction
from duress.scenarios.sim.world import Shared, observe
from duress.scenarios.work import furnish
from duress.simulator import Cell, Outcome, Simulation, ensure_fixed_hash_seed
from duress.simulator.server.settings import settings_for
from duress.simulator.server_end import ServerEnd
from duress.simulator.wire import Framing

OUTAGES = {
    "crash-backend",
    "crash-at-commit",
    "restart-postgres",
    "kill-postmaster",
    "pause-postgres",
    "disk-full",
    "fsync-fails",
}
WARM = 20  # seeds, before anything is measured
CALLS = "select sum(calls) from pg_stat_statements join pg_database on oid = dbid where datname like 'sim%'"
RECOVERY = b"database system was not properly shut down"


@dataclass(slots=True)
class Measured:
    """One seed."""

    seconds: float
    outcome: Outcome
    transfers: int
    faults: int
    statements: int = 0


@dataclass(slots=True)
class Sent:
    """What the sessions of one run were sent: for each of their lives, the chunks."""

    lives: list[list[bytes]] = field(default_factory=list)
    _now: dict[int, list[bytes]] = field(default_factory=dict)

    @contextmanager
    def listening(self) -> Iterator[None]:
        adopt, write = ServerEnd.adopt, ServerEnd.write

        def adopting(end: ServerEnd, seed: int) -> None:
            self._now[id(end)] = []
            self.lives.append(self._now[id(end)])
            adopt(end, seed)

        def writing(end: ServerEnd, chunk: bytearray) -> None:
            before = bytes(chunk)
            write(end, chunk)
            self._now[id(end)].append(before[: len(before) - len(chunk)])

        with patch.object(ServerEnd, "adopt", adopting), patch.object(ServerEnd, "write", writing):
            yield


class Bench:
    """A cell on this core, and payments in it."""

    def __init__(self, order: Order, cell: Cell) -> None:
        self._order, self._cell = order, cell
        self._contents = Contents()
        self._outcome: Outcome | None = None
        work = order.work
        self.simulation = Simulation(self._set_up, data=self._contents.put, cell=cell)
        self._shared = Shared(
            scenario=work.scenario,
            options=work.options,
            settings=work.settings,
            simulation=self.simulation,
            simulating=replace(work.simulating, twice_every=0),
            code="",
        )
        running = self.simulation.run

        def run(*args: Any, **options: Any) -> Outcome:
            self._outcome = running(*args, **options)
            return self._outcome

        self.simulation.run = run  # type: ignore[method-assign]  # the counts of a run are told to nobody else

    def _set_up(self, connection: Connection[Any]) -> None:
        self.furnish(connection)
        self._contents.take(connection)

    def furnish(self, connection: Connection[Any]) -> None:
        """What every run begins with, in a new database."""
        asyncio.run(furnish(connection.info.dsn, self._order.scenario, None, self._order.work.settings.schema))
        let_grow(connection)

    def seed(self, seed: int) -> Measured:
        plan = draw(self._order, seed)
        began = time.perf_counter()
        observed = observe(self._shared, seed, plan)
        took = time.perf_counter() - began
        assert self._outcome is not None
        return Measured(took, self._outcome, len(observed.evidence.final.workflows), len(plan.events))


def counted(order: Order, seeds: range, core: int) -> list[int]:
    """The statements of each seed, as pg_stat_statements has them: those inside functions are not counted apart."""
    counts = []
    settings = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track": "top"}
    with Cell.start(core=core, settings=settings) as cell, psycopg.connect(cell.dsn(), autocommit=True) as reader:
        reader.execute("create extension pg_stat_statements")
        bench = Bench(order, cell)
        for seed in seeds:
            reader.execute("select pg_stat_statements_reset()")
            bench.seed(seed)
            row = reader.execute(CALLS).fetchone()
            assert row is not None
            counts.append(int(row[0]))
        bench.simulation.close()
    return counts


def _answers(chunk: bytes) -> int:
    """How many ReadyForQuery it leads to: one for each simple query, function call and Sync."""
    _, messages = Framing().cut(chunk)
    return sum(kind in b"QFS" for kind, _, _ in messages)


def replayed(lives: list[list[bytes]], server: Server, number: int) -> float:
    """Seconds for all that the sessions of a run were sent, on one connection to a furnished database."""
    name, took = f"replay_{number}", 0.0
    with psycopg.connect(server.dsn(), autocommit=True) as control:
        control.execute(f"create database {name} template furnished".encode())
    with psycopg.connect(server.dsn(name), autocommit=True, prepare_threshold=None) as connection:
        socket = os.dup(connection.fileno())
        os.set_blocking(socket, True)
        for chunks in lives:
            for chunk in chunks:
                wanted, heard = _answers(chunk), 0
                if not wanted:
                    continue
                began = time.perf_counter()
                os.write(socket, chunk)
                answers = Framing()
                while heard < wanted:
                    _, messages = answers.cut(os.read(socket, 65536))
                    heard += sum(kind == ord("Z") for kind, _, _ in messages)
                took += time.perf_counter() - began
            for tidy in ("rollback", "discard all"):
                connection.execute(tidy.encode())
        os.close(socket)
    with psycopg.connect(server.dsn(), autocommit=True) as control:
        control.execute(f"drop database {name}".encode())
    return took


def report(measured: list[Measured], recoveries: int) -> str:
    """The figures, a line each."""
    counts = [one.outcome.counts for one in measured]
    exchanges, seconds = [count.exchanges for count in counts], [one.seconds for one in measured]
    medians: dict[str, Sequence[float]] = {
        "ms": [1e3 * one.seconds for one in measured],
        "s of virtual time": [one.outcome.virtual_s for one in measured],
        "steps": [one.outcome.steps for one in measured],
        "exchanges": exchanges,
        "sessions": [count.sessions for count in counts],
        "transfers": [one.transfers for one in measured],
        "faults": [one.faults for one in measured],
        "lock waits": [count.lock_waits for count in counts],
        "statements held inside": [count.holds for count in counts],
    }
    waited, held = (sum(map(bool, medians[name])) / len(measured) for name in ("lock waits", "statements held inside"))
    lines = [
        f"{len(measured)} seeds in {sum(seconds):.1f} s on one core: {len(measured) / sum(seconds):.1f} seeds/s",
        f"exchanges with the server: {sum(exchanges) / sum(seconds):,.0f} a second",
        "a seed, in the median: " + ", ".join(f"{statistics.median(of):.4g} {name}" for name, of in medians.items()),
        f"seeds with a lock wait: {waited:.0%}; with a statement held inside: {held:.0%}",
        f"crash recoveries in PostgreSQL's log: {recoveries} ({recoveries / len(measured):.1%} of the seeds)",
    ]
    return "\n".join(lines)


def ordered(outages: bool, out: Path) -> Order:
    """Payments as `duress run payments` draws it."""
    order = order_of(Reproduction(reference="payments", seed=0), out)
    return replace(
        order, kinds={kind: weight for kind, weight in order.kinds.items() if outages or kind not in OUTAGES}
    )


@click.command()
@click.argument("seeds", type=click.IntRange(min=1))
@click.option("--outages", is_flag=True, help="Take the server down too.")
@click.option("--sample", default=20, show_default=True, help="Seeds whose statements are counted and sent again.")
def main(seeds: int, outages: bool, sample: int) -> None:
    """Measure SEEDS seeds on one core."""
    ensure_fixed_hash_seed()
    logging.basicConfig(level=logging.CRITICAL)  # workers complain of what is done to them
    core = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="duress-simulation-") as folder:
        order = ordered(outages, Path(folder))
        with Cell.start(core=core) as cell, Server.start(settings=settings_for(cell.server.binaries)) as plain:
            bench = Bench(order, cell)
            with psycopg.connect(plain.dsn(), autocommit=True) as control:
                control.execute("create database furnished")
            with psycopg.connect(plain.dsn("furnished"), autocommit=True) as furnished:
                bench.furnish(furnished)
            for seed in range(seeds + 1, seeds + 1 + WARM):
                bench.seed(seed)
            before = cell.server.log_path.read_bytes().count(RECOVERY)
            measured = [bench.seed(seed) for seed in range(1, seeds + 1)]
            recoveries = cell.server.log_path.read_bytes().count(RECOVERY) - before
            print(report(measured, recoveries), flush=True)
            simulated = again = 0.0
            for seed in range(1, min(seeds, sample) + 1):
                sent = Sent()
                with sent.listening():
                    simulated += bench.seed(seed).seconds
                again += replayed(sent.lives, plain, seed)
            bench.simulation.close()
        statements = counted(order, range(1, min(seeds, sample) + 1), core)
    print(f"statements a seed (pg_stat_statements): median {statistics.median(statements):.0f}")
    print(
        f"{sample} seeds: {simulated:.2f} s simulated, {again:.2f} s for their statements on one plain connection,",
        end=" ",
    )
    print(f"{simulated / again:.2f} times as long")


if __name__ == "__main__":
    main()
