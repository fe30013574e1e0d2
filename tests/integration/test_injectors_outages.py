"""Outages of a real server: each is seen by an observer that had no part in it, and its clients see what the catalogue says."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from injected_workers import Workers, now, state, struck
from machine import needs

from duress.faults.injectors.patience import Patience
from duress.faults.injectors.procs import ProcsInjector
from duress.faults.journal import Journal, heal_leftovers
from duress.faults.observe import LogWatch
from duress.faults.plan import DiskFull, Failover, KillPostmaster, PausePostgres, RestartPostgres, TooManyConnections
from duress.faults.postgres import Server, disk
from duress.faults.postgres.pair import Pair
from duress.faults.undo import children

LIMIT = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(settings={"max_connections": "40"}) as server:
        yield server


def family(server: Server) -> list[int]:
    return [server.postmaster_pid, *(child.pid for child in children(server.postmaster_pid))]


def journals(folder: Path) -> int:
    return len(list(folder.glob("*.jsonl")))


async def connect(server: Server) -> "psycopg.AsyncConnection[tuple[object, ...]]":
    return await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True)


def test_a_paused_server_answers_nobody_until_it_is_resumed(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (_, injector, _ready), await connect(server) as client:
            injection = await injector.inject(now(PausePostgres(duration=600)), 0)
            assert {state(pid) for pid in family(server)} == {"T"}
            assert "are stopped (state T)" in str(injection.confirmed_by)
            answer = asyncio.create_task(client.execute("select 1"))
            _, waits = await asyncio.wait({answer}, timeout=0.2)
            assert waits, "it hangs"
            assert journals(tmp_path) == 1, "what would undo it is written down"
            await injection.heal()
            assert await (await answer).fetchone() == (1,), "and goes on where it was"
            assert injection.effect is not None and injection.healed is not None
            assert journals(tmp_path) == 0

    asyncio.run(run())


PAUSING_HARNESS = """
import asyncio, os, sys, time
from pathlib import Path
from types import SimpleNamespace
from duress.faults.injectors.procs import ProcsInjector
from duress.faults.journal import Journal
from duress.faults.plan import AtTime, Event, PausePostgres
pid, dsn, log, journal = sys.argv[1:]
server = SimpleNamespace(postmaster_pid=int(pid), log_path=Path(log))
target = SimpleNamespace(server=server, dsn=dsn, pair=None, contention=None, network=None)
async def main():
    injector = ProcsInjector(target, clock=time.monotonic, journal=Journal(Path(journal)))
    print(await injector.inject(Event(trigger=AtTime(seconds=0), fault=PausePostgres(duration=600)), 0), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_a_killed_harness_leaves_a_journal_that_resumes_the_server(server: Server, tmp_path: Path) -> None:
    harness = subprocess.Popen(
        [sys.executable, "-c", PAUSING_HARNESS, str(server.postmaster_pid), server.dsn(), server.log_path, tmp_path],
        stdout=subprocess.PIPE,
    )
    try:
        assert harness.stdout is not None
        assert b"are stopped" in harness.stdout.readline()
        assert {state(pid) for pid in family(server)} == {"T"}
    finally:
        harness.kill()
        harness.communicate()
    said = heal_leftovers(tmp_path)
    assert len(said) >= len(family(server))
    assert "T" not in {state(pid) for pid in family(server)}
    server.wait_ready()


def test_sessions_outlive_their_postmaster_by_little_and_the_server_is_started_again(
    server: Server, tmp_path: Path
) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, _ready):
            client = await connect(server)
            busy = asyncio.create_task(client.execute("select count(*) from generate_series(1, 400000)"))
            await asyncio.sleep(0)  # it is sent
            before = server.postmaster_pid
            injection = await injector.inject(now(KillPostmaster()), 0)
            assert state(before) in ("", "Z")
            assert f"process {before} is gone" in str(injection.confirmed_by)
            assert await (await busy).fetchone() == (400000,), "a busy session answers once more"
            assert await until_lost(client)
            await injection.done()
            assert server.postmaster_pid != before and injection.healed is not None
            await workers.ready(0)

    asyncio.run(run())


async def until_lost(client: "psycopg.AsyncConnection[tuple[object, ...]]") -> str:
    """Ask until there is no answer any more; the error."""
    while True:
        try:
            await client.execute("select 1")
        except psycopg.OperationalError as error:
            return str(error)


def test_no_connection_is_left_for_the_worker_until_the_strangers_go(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, [ready]):
            injection = await injector.inject(now(TooManyConnections(duration=600)), 0)
            assert injection.fired and "state=53300" in str(injection.confirmed_by)
            assert state(ready.idle) == state(ready.inside) == "", "the worker's were taken from it"
            with pytest.raises(psycopg.OperationalError, match="too many clients") as refused:
                await connect(server)
            assert refused.value.sqlstate is None, "psycopg has none to give"
            await injection.heal()
            await workers.ready(0)

    asyncio.run(run())


ROWS = "insert into filled select repeat('x', 1000) from generate_series(1, 100)"
SMALL = {"max_wal_size": "32MB", "min_wal_size": "16MB"}  # so that most of a small disk is left to be filled


@needs("mounting", disk.why_not())
def test_a_full_disk_fails_writes_and_not_reads_until_there_is_space(tmp_path: Path) -> None:
    async def run(server: Server) -> None:
        async with struck(server, tmp_path) as (_, injector, _ready), await connect(server) as client:
            await client.execute("create unlogged table filled (what text)")  # no WAL, whose lack ends the server
            writing = asyncio.create_task(until_refused(client, ROWS))
            injection = await injector.inject(now(DiskFull(duration=600)), 0)
            assert "No space left on device" in str(injection.confirmed_by)
            error = await asyncio.wait_for(writing, LIMIT)
            assert error.sqlstate == "53100"
            assert os.statvfs(server.data_directory).f_bfree * 4096 < 1 << 20
            assert await (await client.execute("select 1")).fetchone() == (1,)
            await injection.heal()
            await client.execute(ROWS)

    with Server.start(small_disk=True, settings=SMALL) as server:
        folder = server.data_directory
        assert os.path.ismount(folder)
        asyncio.run(run(server))
    assert not os.path.ismount(folder) and not folder.exists()


@needs("mounting", disk.why_not())
def test_a_server_that_cannot_write_what_it_must_panics_and_comes_back_once_it_can(tmp_path: Path) -> None:
    async def run(server: Server) -> None:
        async with struck(server, tmp_path) as (_, injector, _ready), await connect(server) as client:
            message = "select pg_logical_emit_message(true, 'filling', repeat('x', 100000))"  # WAL, which it must have
            writing = asyncio.create_task(until_refused(client, message))
            injection = await injector.inject(now(DiskFull(duration=600)), 0)
            assert "No space left on device" in str(injection.confirmed_by)
            assert isinstance(await asyncio.wait_for(writing, LIMIT), psycopg.OperationalError)
            assert await asyncio.wait_for(until_lost(client), LIMIT)
            await injection.heal()
            async with await connect(server) as again:
                await again.execute(message)

    with Server.start(small_disk=True, settings=SMALL) as server:
        asyncio.run(run(server))
        assert re.search(r"PANIC: .*No space left on device", server.log_path.read_text())


async def until_refused(client: "psycopg.AsyncConnection[tuple[object, ...]]", statement: str) -> psycopg.Error:
    """Execute a statement again and again until it fails."""
    while True:
        try:
            await client.execute(statement)
        except psycopg.Error as error:
            return error


@needs("mounting", disk.why_not())
def test_a_server_without_a_disk_of_its_own_is_not_filled(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (_, injector, _ready):
            injection = await injector.inject(now(DiskFull(duration=600)), 0)
            assert not injection.fired and "disk of its own" in str(injection.reason)

    asyncio.run(run())


@asynccontextmanager
async def paired(folder: Path, mode: str) -> AsyncIterator[tuple[Pair, Workers, ProcsInjector]]:
    """A pair, one worker on it, and an injector."""
    with Pair.start(mode) as pair:  # type: ignore[arg-type]
        workers = Workers(pair.first, pair.dsn(), pair=pair)
        try:
            await workers.spawn(0)
            await workers.ready(0)
            async with ProcsInjector(
                workers, clock=monotonic, journal=Journal(folder), patience=Patience()
            ) as injector:
                yield pair, workers, injector
        finally:
            await workers.close()


def test_the_standby_takes_over_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    async def run() -> None:
        async with paired(tmp_path, "sync") as (pair, workers, injector):
            async with await psycopg.AsyncConnection.connect(pair.dsn(), autocommit=True) as client:
                await client.execute("create table kept as select generate_series(1, 100) as n")
            before = family(pair.first)
            injection = await injector.inject(now(Failover(mode="sync")), 0)
            await injection.done()
            assert {state(pid) for pid in before} <= {"", "Z"}
            assert workers.lost == ["in recovery: (True,)"], "the standby was read before it took any writes"
            assert f"process {before[0]} is gone" in str(injection.confirmed_by)
            assert "ready to accept connections" in str(injection.confirmed_by)
            async with await psycopg.AsyncConnection.connect(pair.dsn(), autocommit=True) as client:
                row = await (await client.execute("select count(*), pg_is_in_recovery() from kept")).fetchone()
                assert row == (100, False)
                await client.execute("insert into kept values (101)")
            await workers.ready(0)
            again = await injector.inject(now(Failover(mode="sync")), 0)
            assert not again.fired and "no standby" in str(again.reason)

    asyncio.run(run())


def test_an_outage_that_waited_for_a_failover_strikes_the_new_primary(tmp_path: Path) -> None:
    async def run() -> None:
        async with paired(tmp_path, "sync") as (pair, workers, injector):
            lost, successor = pair.first.postmaster_pid, pair.standby.postmaster_pid
            failing = asyncio.create_task(injector.inject(now(Failover(mode="sync")), 0))
            while state(lost) not in ("", "Z"):  # noqa: ASYNC110  # another process ends
                await asyncio.sleep(0.01)
            restart = await injector.inject(now(RestartPostgres()), 1)
            await (await failing).done()
            await restart.done()
            assert f"process {successor} is gone" in str(restart.confirmed_by)
            assert state(lost) in ("", "Z") and not pair.first.running(), "the old primary is back"
            await workers.ready(0)

    asyncio.run(run())


def test_a_standby_does_not_count_as_promoted_before_it_is(tmp_path: Path) -> None:
    with Pair.start("async") as pair:
        log = LogWatch(pair.standby.log_path)
        assert log.promoted() is None
        pair.lose_primary()
        assert log.promoted() is None
        pair.promote()
        deadline = time.monotonic() + 20
        while log.promoted() is None:  # the line is written beside the promotion, not before its end is known
            assert time.monotonic() < deadline, "the log never said so"
            time.sleep(0.01)


def test_without_an_injection_the_observers_see_nothing(server: Server) -> None:
    log = LogWatch(server.log_path)
    with psycopg.connect(server.dsn()) as client:
        client.execute("create temp table plain (n int)")
    assert log.disk_full() is log.refused() is log.promoted() is None
    assert "T" not in {state(pid) for pid in family(server)}
