"""Told nothing, the proxy changes nothing: whatever a client does, it does as if connected to the server itself."""

import asyncio
import os
import select
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from proxied import standing_before, until
from psycopg.conninfo import conninfo_to_dict

from duress.faults.postgres import Server
from duress.faults.proxy import UnsuitableServer
from duress.faults.proxy.control import through, upstreams_of

Connection = psycopg.AsyncConnection[Any]
PGBENCH = next((str(path) for path in Path("/usr/lib/postgresql").glob("*/bin/pgbench")), shutil.which("pgbench"))


async def connect(dsn: str, **options: Any) -> Connection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, **options)


async def copies(client: Connection) -> None:
    """COPY both ways, larger than any buffer; an error in the middle; and the connection is good afterwards."""
    await client.execute("create table lines (n int, text text)")
    async with client.cursor() as cursor:
        async with cursor.copy("copy lines from stdin") as copy:
            for n in range(20000):
                await copy.write_row((n, "x" * (n % 300)))
        assert cursor.rowcount == 20000
        rows = 0
        async with cursor.copy("copy lines to stdout") as copy:
            async for row in copy.rows():
                rows += len(row)
        assert rows == 40000
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            async with cursor.copy("copy lines from stdin") as copy:
                await copy.write(b"no number\tx\n" * 10000)
        with pytest.raises(KeyError):
            await given_up(cursor)
        await cursor.execute("select count(*), sum(length(text)) from lines")
        assert await cursor.fetchone() == (20000, sum(n % 300 for n in range(20000)))


async def given_up(cursor: psycopg.AsyncCursor[Any]) -> None:
    """A COPY that the client breaks off: CopyFail."""
    async with cursor.copy("copy lines (n, text) from stdin (format csv)") as copy:
        await copy.write(b"1,x\n")
        raise KeyError


async def pipelines(client: Connection) -> None:
    """Many requests without waiting, with an error among them."""
    async with client.pipeline() as pipeline:
        cursors = [await client.execute("select %s::int + %s", [n, 1]) for n in range(300)]
        assert [(await cursor.fetchone())[0] for cursor in cursors] == list(range(1, 301))  # type: ignore[index]
        bad = await client.execute("select 1/%s", [0])
        with pytest.raises(psycopg.errors.DivisionByZero):
            await bad.fetchone()
        await pipeline.sync()
        assert await (await client.execute("select %s", ["after"])).fetchone() == ("after",)


async def large_values(client: Connection) -> None:
    """A value that is larger than what the proxy would wait for, in both directions, and many of them."""
    value = os.urandom(30_000_000)
    row = await (await client.execute("select %b::bytea", [value], binary=True)).fetchone()
    assert row == (value,)
    many = await (await client.execute("select n, repeat('y', 70000) from generate_series(1, 200) as n")).fetchall()
    assert [len(text) for _, text in many] == [70000] * 200
    text = "z" * 3_000_000
    assert await (await client.execute(f"select length('{text}')".encode())).fetchone() == (3_000_000,)


async def cancels(client: Connection) -> None:
    """A cancel request comes on a connection of its own."""
    sleeping = asyncio.create_task(client.execute("select pg_sleep(60)"))
    await asyncio.sleep(0.2)
    await client.cancel_safe(timeout=5)
    with pytest.raises(psycopg.errors.QueryCanceled):
        await sleeping
    assert await (await client.execute("select 1")).fetchone() == (1,)


async def notices(client: Connection) -> None:
    """What the server says unasked: notices, notifications, changes of parameters."""
    heard: list[str] = []
    client.add_notice_handler(lambda said: heard.append(said.message_primary or ""))
    await client.execute("do $$ begin raise notice 'one'; raise warning 'two'; end $$")
    assert heard == ["one", "two"]
    await client.execute("listen here")
    await client.execute("select pg_notify('here', repeat('n', 7000))")
    assert [len(one.payload) async for one in client.notifies(timeout=5, stop_after=1)] == [7000]
    await client.execute("set client_encoding to latin1")
    assert client.info.parameter_status("client_encoding") == "LATIN1"


async def transactions(client: Connection) -> None:
    """Savepoints, prepared statements, server-side cursors, errors within."""
    async with client.transaction():
        await client.execute("create table kept (n int)")
        with pytest.raises(psycopg.errors.UndefinedTable):
            async with client.transaction():
                await client.execute("select * from nowhere")
        for n in range(20):
            await client.execute("insert into kept values (%s)", [n], prepare=True)
        async with client.cursor("named") as cursor:
            await cursor.execute("select n from kept order by n")
            assert [row[0] for row in await cursor.fetchmany(5)] == [0, 1, 2, 3, 4]
            assert len(await cursor.fetchall()) == 15
    assert client.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


SMALL = (pipelines, cancels, notices, transactions)


@pytest.mark.parametrize(
    ("what", "split"), [(what, False) for what in (copies, large_values, *SMALL)] + [(what, True) for what in SMALL]
)
def test_a_client_does_what_it_does(database: str, what: Any, split: bool) -> None:
    async def check() -> None:
        async with standing_before(database, split=split) as (_, dsn), await connect(dsn) as client:
            await what(client)

    asyncio.run(asyncio.wait_for(check(), 60))


def test_a_password_is_asked_for_and_checked(server: Server) -> None:
    """SCRAM goes through, right and wrong; and the errors of connecting are the server's."""

    async def check() -> None:
        async with standing_before(server.dsn(tcp=True)) as (_, dsn):
            async with await connect(dsn) as client:
                assert client.pgconn.used_password
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                await connect(dsn, password="wrong")
            with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
                await connect(dsn, dbname="nowhere")

    asyncio.run(check())


def test_encryption_is_declined_and_replication_refused_with_a_reason(database: str) -> None:
    async def check() -> None:
        async with standing_before(database) as (_, dsn):
            async with await connect(dsn, sslmode="prefer", gssencmode="disable") as client:
                assert not client.pgconn.ssl_in_use
            with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
                await connect(dsn, sslmode="require")
            with pytest.raises(psycopg.OperationalError, match="replication does not go through"):
                await connect(dsn, replication="database")

    asyncio.run(check())


@pytest.mark.parametrize("version", ["3.0", "3.2"])
def test_both_versions_of_the_protocol_pass(database: str, version: str) -> None:
    if psycopg.pq.version() < 180000:
        pytest.skip("libpq 18 chooses the version")

    async def check() -> None:
        versions = {"min_protocol_version": version, "max_protocol_version": version}
        async with standing_before(database) as (_, dsn), await connect(dsn, **versions) as client:
            await cancels(client)

    asyncio.run(check())


def test_who_hangs_up_is_heard_at_the_other_side(database: str) -> None:
    """A client that is gone ends its session, a session that is ended ends the client's connection, in the server's words."""

    async def check() -> None:
        async with standing_before(database) as (_, dsn), await connect(database) as admin:
            client = await connect(dsn, application_name="client")
            await admin.execute("select pg_terminate_backend(%s)", [client.info.backend_pid])
            assert select.select([client.pgconn.socket], [], [], 10)[0], "nothing is heard of the end"
            with pytest.raises(psycopg.errors.AdminShutdown):
                await client.execute("select 1")
            program = "import psycopg, sys; psycopg.connect(sys.argv[1]).execute('select pg_sleep(60)')"
            checking = f"{dsn} options='-c client_connection_check_interval=20ms'"
            busy = await asyncio.create_subprocess_exec(sys.executable, "-c", program, checking)
            count = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'"
            await until(admin, count, 1)
            busy.kill()
            await busy.wait()
            await until(admin, count, 0)

    asyncio.run(asyncio.wait_for(check(), 30))


def test_what_is_not_postgresqls_protocol_passes_as_it_is() -> None:
    """The proxy stays out of the way of what it cannot read."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data[::-1])
        writer.close()

    async def check() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, standing_before(f"host=127.0.0.1 port={port}") as (_, dsn):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(conninfo_to_dict(dsn)["port"] or 0))
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            answer = await reader.readexactly(18)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            return answer

    assert asyncio.run(asyncio.wait_for(check(), 10)) == b"GET / HTTP/1.1\r\n\r\n"[::-1]


def test_a_server_that_is_away_refuses(database: str) -> None:
    async def check() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with standing_before(f"host=127.0.0.1 port={port} user=duress") as (_, dsn):
            with pytest.raises(psycopg.OperationalError):
                await connect(dsn, connect_timeout=5)

    asyncio.run(check())


@pytest.mark.skipif(PGBENCH is None, reason="pgbench is not installed")
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_runs_unharmed(server: Server, database: str, mode: str, split: bool) -> None:
    """Not a transaction fails, and the sums are right."""
    assert PGBENCH is not None

    async def run(dsn: str, *words: str) -> None:
        parts = conninfo_to_dict(dsn)
        process = await asyncio.create_subprocess_exec(
            *(str(PGBENCH), "-h", str(parts["host"]), "-p", str(parts["port"]), "-U", str(parts["user"])),
            *(*words, str(parts["dbname"])),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()

    async def check() -> None:
        async with standing_before(database, split=split) as (_, dsn):
            await run(database, "-i", "-q")
            await run(dsn, "-M", mode, "-c", "3", "-t", "10" if split else "200")
            async with await connect(database) as admin:
                sums = "select (select sum(abalance) from pgbench_accounts), (select sum(delta) from pgbench_history), count(*)"
                row = await (await admin.execute(f"{sums} from pgbench_history")).fetchone()
        assert row is not None and row[0] == row[1] and row[2] == (30 if split else 600)

    asyncio.run(asyncio.wait_for(check(), 60))


def test_the_dsn_leads_through_and_keeps_everything_else() -> None:
    dsn = through("postgresql://me:secret@db.example:6000/shop?application_name=x", [7000])
    assert conninfo_to_dict(dsn) == {
        "user": "me", "password": "secret", "dbname": "shop", "application_name": "x", "host": "127.0.0.1", "port": "7000",
    }  # fmt: skip
    two = through("host=a,b port=1,2 dbname=shop target_session_attrs=read-write", [7, 8])
    assert conninfo_to_dict(two) == {
        "host": "127.0.0.1,127.0.0.1", "port": "7,8", "dbname": "shop", "target_session_attrs": "read-write",
    }  # fmt: skip
    assert [one.path for one in upstreams_of("host=/tmp port=6000")] == ["/tmp/.s.PGSQL.6000"]
    assert [(one.host, one.port) for one in upstreams_of("host=db hostaddr=10.0.0.1")] == [("10.0.0.1", 5432)]
    assert [(one.host, one.port) for one in upstreams_of("host=a,b port=6000")] == [("a", 6000), ("b", 6000)]


@pytest.mark.parametrize(
    ("dsn", "why"),
    [
        ("host=a sslmode=verify-full", "sslmode"),
        ("host=a channel_binding=require", "channel"),
    ],
)
def test_a_server_that_it_cannot_stand_before_is_refused_with_a_remedy(dsn: str, why: str) -> None:
    with pytest.raises(UnsuitableServer, match=why):
        upstreams_of(dsn)
