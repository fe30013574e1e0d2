"""What the proxy breaks, and what is left of it when it is told to stop."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from proxied import standing_before, until
from psycopg.conninfo import conninfo_to_dict

from duress.faults.proxy import Interject, Pattern, Proxy, Strike
from duress.faults.proxy.control import ProxyLost
from duress.faults.proxy.orders import Ending, Shape, Sides

Connection = psycopg.AsyncConnection[Any]


GONE = "select count(*) from pg_stat_activity where application_name = 'client'"


async def connect(dsn: str, **options: Any) -> Connection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, **options)


def run(check: Any) -> Any:
    return asyncio.run(asyncio.wait_for(check, 60))


async def round_trip(client: Connection) -> float:
    began = time.monotonic()
    await client.execute("select 1")
    return time.monotonic() - began


@pytest.mark.parametrize("ending", ["rst", "fin"])
def test_dropped_connections_are_lost_at_both_ends(database: str, ending: Ending) -> None:
    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await connect(database) as admin:
            clients = [await connect(dsn, application_name="client") for _ in range(3)]
            assert await proxy.drop(3, ending) == 3
            for client in clients:
                with pytest.raises(psycopg.OperationalError) as raised:
                    await client.execute("select 1")
                assert raised.value.sqlstate is None and client.closed
            await until(admin, GONE, 0)
            async with await connect(dsn) as again:
                await again.execute("select 1")

    run(check())


def test_refused_connections_come_back_on_the_same_port(database: str) -> None:
    """Those that were there stay, others are refused by the kernel, and afterwards accepted."""

    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await connect(dsn) as client:
            port = int(conninfo_to_dict(dsn)["port"] or 0)
            for _ in range(2):
                await proxy.refuse(3, on=True)
                await proxy.refuse(3, on=True)
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", port)
                with pytest.raises(psycopg.OperationalError, match="Connection refused"):
                    await connect(dsn)
                await client.execute("select 1")
                await proxy.refuse(3, on=False)
                async with await connect(dsn) as other:
                    await other.execute("select 1")

    run(check())


@pytest.mark.parametrize("sides", ["both", "to-server", "to-worker"])
def test_a_partition_withholds_and_everything_arrives_when_it_heals(database: str, sides: Sides) -> None:
    """Also a connection that is begun in it; the server has heard of the statement only if that side was open."""

    async def check() -> None:
        async with (
            standing_before(database) as (proxy, dsn),
            await connect(database) as admin,
            await connect(dsn) as client,
        ):
            await admin.execute("create table heard (n int)")
            await proxy.withhold(3, sides)
            begun = asyncio.create_task(connect(dsn))
            asked = asyncio.create_task(client.execute("insert into heard values (1) returning 5"))
            await asyncio.sleep(0.3)
            assert not begun.done() and not asked.done()
            heard = await (await admin.execute("select count(*) from heard")).fetchone()
            assert heard == (int(sides == "to-worker"),)
            await proxy.release(3)
            assert await (await asked).fetchone() == (5,)
            async with await begun as late:
                await late.execute("select 1")

    run(check())


def test_a_partition_hides_the_end_of_a_connection_too(database: str) -> None:
    """A session whose client is gone stays, with its locks, until the partition heals."""

    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await connect(database) as admin:
            await admin.execute("create table one (n int)")
            client = await psycopg.AsyncConnection.connect(dsn, application_name="client")
            await client.execute("lock table one")
            await proxy.withhold(3)
            client.pgconn.finish()
            await asyncio.sleep(0.2)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await admin.execute("begin; lock table one nowait; commit")
            await admin.rollback()
            await proxy.release(3)
            await admin.execute("begin; lock table one; commit")

    run(check())


def test_a_partition_may_heal_with_its_connections_dead(database: str) -> None:
    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await connect(dsn) as client:
            await proxy.withhold(3)
            asked = asyncio.create_task(client.execute("select 1"))
            await asyncio.sleep(0.1)
            await proxy.release(3, alive=False)
            with pytest.raises(psycopg.OperationalError):
                await asked
            async with await connect(dsn) as again:
                await again.execute("select 1")

    run(check())


def test_a_slow_link_takes_its_time_in_each_direction(database: str) -> None:
    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await connect(dsn) as client:
            await proxy.slow(3, Shape(latency=0.05))
            assert await round_trip(client) >= 0.1
            await proxy.slow(3, None)
            await proxy.slow(3, Shape(latency=0.03, jitter=0.02), "to-worker")
            assert 0.03 <= await round_trip(client) < 0.1
            await proxy.slow(3, Shape(bandwidth=50_000), "to-worker")
            began = time.monotonic()
            row = await (await client.execute("select repeat('x', 10000)")).fetchone()
            assert row is not None and len(row[0]) == 10000
            assert time.monotonic() - began >= 0.2
            await proxy.slow(3, None)
            assert await round_trip(client) < 0.1

    run(check())


async def listens(proxy: Proxy, dsn: str, admin: Connection) -> None:
    async with await connect(dsn) as client:
        await client.execute("listen here")
        rule = await proxy.arm(
            3, Strike(pattern=Pattern(direction="to-worker", message="NotificationResponse"), deed="drop")
        )
        for payload in ("lost", "kept"):
            await admin.execute("select pg_notify('here', %s)", [payload])
        heard = [one.payload async for one in client.notifies(timeout=5, stop_after=1)]
        assert heard == ["kept"]
        assert (await proxy.fired(rule)).what == "drop to-worker"


async def holds(proxy: Proxy, dsn: str, admin: Connection) -> None:
    async with await connect(dsn) as client:
        pattern = Pattern(direction="to-server", statement="update .* set", occurrence=2)
        await admin.execute("create table t (n int); insert into t values (0)")
        rule = await proxy.arm(3, Strike(pattern=pattern, deed="hold"))
        await client.execute("update t set n = 1")
        second = asyncio.create_task(client.execute("update t set n = %s", [2]))
        await proxy.fired(rule)
        await asyncio.sleep(0.1)
        assert not second.done()
        assert await (await admin.execute("select n from t")).fetchone() == (1,)
        await proxy.withdraw(3, rule)
        await second
        assert await (await admin.execute("select n from t")).fetchone() == (2,)


async def delays(proxy: Proxy, dsn: str, admin: Connection) -> None:
    async with await connect(dsn) as client:
        pattern = Pattern(direction="to-worker", message="ReadyForQuery")
        rule = await proxy.arm(3, Strike(pattern=pattern, deed="delay", seconds=0.1, times=2))
        assert await round_trip(client) >= 0.1
        assert await round_trip(client) >= 0.1
        assert await round_trip(client) < 0.1
        assert not await proxy.withdraw(3, rule)


async def cuts(proxy: Proxy, dsn: str, admin: Connection) -> None:
    await admin.execute("create table t (n int)")
    for deed, rows in (("cut", 0), ("cut-inside", 0), ("cut-after", 1)):
        async with await connect(dsn, application_name="client") as client:
            rule = await proxy.arm(3, Strike(pattern=Pattern(direction="to-server", statement="^insert"), deed=deed))  # type: ignore[arg-type]
            with pytest.raises(psycopg.OperationalError):
                await client.execute("insert into t values (1)")
            await proxy.fired(rule)
        await until(admin, GONE, 0)
        assert await (await admin.execute("select count(*) from t")).fetchone() == (rows,), deed


@pytest.mark.parametrize("what", [listens, holds, delays, cuts], ids=lambda what: what.__name__)
def test_single_messages_are_struck_by_kind_text_and_occurrence(database: str, what: Any) -> None:
    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await connect(database) as admin:
            await what(proxy, dsn, admin)

    run(check())


async def once(proxy: Proxy, dsn: str, admin: Connection) -> None:
    """A setting of ours holds from the next exchange on, and the client has heard nothing of it."""
    async with await connect(dsn) as client:
        rule = await proxy.arm(3, Interject(sql="set statement_timeout = '50ms'; select 'not for you'"))
        async with client.pipeline():
            first = await client.execute("select %s", [1])
            second = await client.execute("select current_setting('statement_timeout')")
        assert (await first.fetchone(), await second.fetchone()) == ((1,), ("50ms",))
        assert "interjected" in (await proxy.fired(rule)).what and not await proxy.withdraw(3, rule)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await client.execute("select pg_sleep(5)")


async def each_time(proxy: Proxy, dsn: str, admin: Connection) -> None:
    """Whatever the client sets itself; inside and outside of transactions; until it is withdrawn."""
    await admin.execute("create table t (n int)")
    async with await connect(dsn) as client:
        outside = await proxy.arm(3, Interject(sql="set default_transaction_read_only = on", times=None, inside=False))
        inside = await proxy.arm(3, Interject(sql="set transaction_read_only = on", times=None, inside=True))
        await client.execute("set default_transaction_read_only = off")
        for values, params in (("1", None), ("%s", [5])):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                await client.execute(f"insert into t values ({values})".encode(), params)
        await client.execute("begin read write")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await client.execute("insert into t values (1)")
        await client.execute("rollback")
        for rule in (inside, outside):
            assert await proxy.withdraw(3, rule)
        await client.execute("set default_transaction_read_only = off")
        await client.execute("insert into t values (1)")


async def before_a_statement(proxy: Proxy, dsn: str, admin: Connection) -> None:
    async with await connect(dsn) as client:
        rule = Interject(sql="set application_name = 'ours'", statement="application_name$")
        await proxy.arm(3, rule)
        await client.execute("set application_name = 'theirs'")
        assert await (await client.execute("show application_name")).fetchone() == ("ours",)


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize("what", [once, each_time, before_a_statement], ids=lambda what: what.__name__)
def test_statements_of_ours_run_between_two_of_the_workers(database: str, what: Any, split: bool) -> None:
    async def check() -> None:
        async with standing_before(database, split=split) as (proxy, dsn), await connect(database) as admin:
            await what(proxy, dsn, admin)

    run(check())


def test_the_log_tells_messages_and_no_values(database: str, tmp_path: Path) -> None:
    async def check() -> None:
        async with standing_before(database) as (proxy, dsn), await connect(dsn) as client:
            before = time.monotonic()
            await client.execute("select 'a secret', generate_series(1, 50)")
            with pytest.raises(psycopg.errors.DivisionByZero):
                await client.execute("select %s / 0", [4711])
            after = time.monotonic()
            count = await proxy.save_log(tmp_path / "log", 3)
        text = (tmp_path / "log").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert len(lines) == count and "secret" not in text and "4711" not in text
        ours = [line for line in lines if before <= line["at"] <= after]
        told = [(line["message"], line.get("count", 1), line.get("note", "")) for line in ours]
        assert told[:5] == [
            ("Query", 1, "select"), ("RowDescription", 1, ""), ("DataRow", 50, ""), ("CommandComplete", 1, "SELECT 50"),
            ("ReadyForQuery", 1, "I"),
        ]  # fmt: skip
        assert ("ErrorResponse", 1, "22012") in told
        assert {(line["worker"], line["connection"]) for line in ours} == {(3, 1)}

    run(check())


def test_an_order_that_cannot_be_done_says_why(database: str) -> None:
    async def check() -> None:
        async with standing_before(database) as (proxy, _):
            with pytest.raises(ProxyLost, match="worker 4 has no port"):
                await proxy.drop(4)
            await proxy.close_port(3)
            with pytest.raises(ProxyLost, match="worker 3 has no port"):
                await proxy.drop(3)
            await proxy.listen(3, database)
            os.kill(proxy.pid, signal.SIGKILL)
            with pytest.raises(ProxyLost):
                await asyncio.gather(*(proxy.drop(3) for _ in range(3)))

    run(check())
    with pytest.raises(ValueError, match="no message is called 'Frobnicate'"):
        Pattern(direction="to-server", message="Frobnicate")


def test_a_killed_harness_takes_its_proxy_along(database: str) -> None:
    """Stopped or not: nothing is left that could be in the way of the next run."""
    harness = """
import asyncio, sys
from duress.faults.proxy import open_proxy
async def main():
    async with open_proxy() as proxy:
        await proxy.listen(0, sys.argv[1])
        print(proxy.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    for stopped in (False, True):
        process = subprocess.Popen([sys.executable, "-c", harness, database], stdout=subprocess.PIPE)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and _lives(pid):
            time.sleep(0.01)
        assert not _lives(pid)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
