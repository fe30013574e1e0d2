"""A Toxiproxy server is found, started and gone with us; what it does not do is said in its own words."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from machine import needs, why_no_toxiproxy

from duress.faults.network import NetworkUnavailable
from duress.faults.postgres import Server
from duress.faults.toxiproxy import NoToxiproxy, ToxiproxyError, ToxiproxyNetwork, find_toxiproxy, open_toxiproxy
from duress.faults.toxiproxy.server import running

toxiproxy = needs("toxiproxy", why_no_toxiproxy())


def test_where_there_is_none_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GOBIN", str(tmp_path))
    monkeypatch.delenv("DURESS_TOXIPROXY", raising=False)
    with pytest.raises(NoToxiproxy, match=r"go install github\.com/Shopify/toxiproxy"):
        find_toxiproxy()
    (tmp_path / "server").write_text("#!/bin/sh\necho something else\n")
    (tmp_path / "server").chmod(0o755)
    with pytest.raises(NoToxiproxy):  # many programs are called so
        find_toxiproxy()
    (tmp_path / "server").write_text("#!/bin/sh\necho toxiproxy-server version git\n")
    assert find_toxiproxy().program == tmp_path / "server"
    monkeypatch.setenv("DURESS_TOXIPROXY", "toxi.example:8474")
    assert find_toxiproxy().address == ("toxi.example", 8474)
    monkeypatch.setenv("DURESS_TOXIPROXY", str(tmp_path / "missing"))
    with pytest.raises(NoToxiproxy, match="neither a program nor HOST:PORT"):
        find_toxiproxy()


def test_a_server_by_unix_socket_is_out_of_its_reach(server: Server) -> None:
    with pytest.raises(NetworkUnavailable, match="over TCP only"):
        ToxiproxyNetwork("127.0.0.1", 1).check(server.dsn())


def test_an_api_that_does_not_answer_is_an_error_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def check() -> None:
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            network = ToxiproxyNetwork(*server.sockets[0].getsockname())
            with pytest.raises(ToxiproxyError, match="post /proxies"):
                await network.listen(0, "host=127.0.0.1 port=5432")

    began = time.monotonic()
    asyncio.run(check())
    assert time.monotonic() - began < 20


def test_an_api_that_fails_is_an_error_in_its_own_words() -> None:
    async def failing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 11\r\nConnection: close\r\n\r\nout of luck"
        )
        writer.close()

    async def check() -> None:
        async with await asyncio.start_server(failing, "127.0.0.1", 0) as server:
            network = ToxiproxyNetwork(*server.sockets[0].getsockname())
            with pytest.raises(ToxiproxyError, match="500 out of luck"):
                await network.listen(0, "host=127.0.0.1 port=5432")

    asyncio.run(check())


@toxiproxy
def test_two_networks_share_a_server_and_take_only_their_own_proxies_along(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lanes of one campaign do with a server whose address was given."""

    async def check() -> None:
        async with running(find_toxiproxy()) as (host, port):
            monkeypatch.setenv("DURESS_TOXIPROXY", f"{host}:{port}")
            async with open_toxiproxy() as outer:
                dsn = await outer.listen(0, server.dsn(tcp=True))
                async with (
                    open_toxiproxy() as inner,
                    await psycopg.AsyncConnection.connect(await inner.listen(0, server.dsn(tcp=True))) as one,
                ):
                    await inner.withhold(0)
                    await inner.release(0)
                    await one.execute("select 1")
                async with await psycopg.AsyncConnection.connect(dsn) as other:
                    await other.execute("select 1")
                with pytest.raises(ToxiproxyError, match="invalid toxic type"):
                    await outer._add(0, "x", "no-such-toxic", "both", {})
                with pytest.raises(ToxiproxyError, match="cannot reset"):
                    await outer.drop(0, "rst")

    asyncio.run(asyncio.wait_for(check(), 30))


@toxiproxy
def test_a_killed_harness_takes_its_server_along() -> None:
    harness = """
import asyncio
from duress.faults.toxiproxy import find_toxiproxy
from duress.faults.toxiproxy.server import running
async def main():
    async with running(find_toxiproxy()) as (host, port):
        print(port, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", harness], stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _listened_to(int(port)):
        time.sleep(0.02)
    assert not _listened_to(int(port))


def _listened_to(port: int) -> bool:
    wanted = f":{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(wanted) and row[3] == "0A" for row in rows)
