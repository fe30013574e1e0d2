"""Behind PgBouncer in transaction mode everything still works; a dead worker is then known by its lease."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from engine_room import Watch, session, working
from engine_workflows import EFFECTS, hostage, transfer
from test_engine_recovery import exactly_once, workers

from duress.engine import Engine
from duress.engine.link import prepare_session

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (Debian: pgbouncer)")

OPTIONS = {"lease": 1.0, "heartbeat": 0.2, "poll": 0.1}


@pytest.fixture
def pooled(database: str, open_folder: Path) -> Iterator[str]:
    """The database's DSN through a PgBouncer of our own, which listens on a socket in a folder of its own."""
    parts = psycopg.conninfo.conninfo_to_dict(database)
    account = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    if account:
        shutil.chown(open_folder, account.pw_uid, account.pw_gid)
        os.chmod(str(parts["host"]), 0o711)  # its socket is for anyone who may enter
    (open_folder / "pgbouncer.ini").write_text(f"""
[databases]
* = host={parts["host"]} port={parts["port"]} user=duress
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {open_folder}
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
server_reset_query_always = 0
ignore_startup_parameters = extra_float_digits
""")
    assert PGBOUNCER is not None
    process = subprocess.Popen(
        [PGBOUNCER, str(open_folder / "pgbouncer.ini")],
        stderr=subprocess.PIPE,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if b"process up" in line:
                break
        else:
            raise AssertionError("pgbouncer did not come up")
        yield psycopg.conninfo.make_conninfo(database, host=str(open_folder), port=6432)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_the_pooler_is_noticed(database: str, pooled: str) -> None:
    async def run() -> None:
        for dsn, expected in ((database, False), (pooled, True)):
            async with session(dsn) as sql:
                await prepare_session(sql.conn, "20ms")
                assert (sql.conn.prepare_threshold is None) is expected
                (interval,) = (await sql.all("show client_connection_check_interval"))[0]
                assert (interval == "0") is expected  # what is set there would be somebody else's

    asyncio.run(run())


def test_everything_works_behind_a_transaction_pooler(database: str, pooled: str) -> None:
    async def run() -> None:
        async with Engine(pooled) as engine, Engine(pooled) as other, session(database) as sql:
            await engine.migrate()
            await sql.conn.execute(EFFECTS.encode())
            async with working(engine, **OPTIONS), working(other, **OPTIONS):
                handles = [await engine.start(f"w{n}", transfer, 0.05) for n in range(40)]
                for handle in handles:
                    assert await handle.result(timeout=20) == 2
            await exactly_once(sql, 80)
            assert await sql.all("select distinct end_reason from duress.worker") == [("left",)]
            locks = "select count(*) from pg_locks where locktype = 'advisory'"
            assert await sql.one(locks) == 0

    asyncio.run(run())


def test_a_killed_worker_behind_a_pooler_is_taken_over_by_lease(database: str, pooled: str) -> None:
    async def run() -> None:
        async with Engine(pooled) as engine, session(database) as sql:
            await engine.migrate()
            await sql.conn.execute(EFFECTS.encode())
            options: dict[str, Any] = dict(OPTIONS)
            async with workers(pooled, 1, **options) as [victim]:
                handles = [await engine.start(f"w{n}", transfer, 30.0) for n in range(10)]
                await sql.until("select count(*) from duress.checkpoint", is_=10)
                watch = Watch()
                async with Engine(pooled, observer=watch) as successor, working(successor, **options):
                    victim.send(signal.SIGKILL)
                    assert (await watch.seen("worker.took-over"))["reason"] == "lease"
                    for handle in handles:
                        assert await handle.result(timeout=20) == 2
            await exactly_once(sql, 20)

    asyncio.run(run())


def test_a_paused_worker_behind_a_pooler_is_no_hostage_taker(database: str, pooled: str) -> None:
    async def run() -> None:
        async with Engine(pooled) as engine, session(database) as sql:
            await engine.migrate()
            await sql.conn.execute(EFFECTS.encode())
            options: dict[str, Any] = dict(OPTIONS)
            async with workers(pooled, 1, hold="step.committing", **options) as [victim]:
                handle = await engine.start("one", hostage, 0.0)
                await victim.seen("step.committing")
                victim.send(signal.SIGSTOP)
                began = asyncio.get_running_loop().time()
                async with working(engine, **options):
                    assert await handle.result(timeout=9) == 2
                    assert asyncio.get_running_loop().time() - began < OPTIONS["lease"] + 1.2
                    victim.send(signal.SIGCONT)
                    await victim.seen("worker.lost")
            await exactly_once(sql, 1)

    asyncio.run(run())
