"""A proxy in front of a server, as its tests need it, and streams cut into single bytes."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, LiteralString

import psycopg

from duress.faults.proxy import Proxy, open_proxy
from duress.faults.proxy.control import through, upstreams_of


@contextlib.asynccontextmanager
async def standing_before(dsn: str, *, split: bool = False) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the server for worker 3, and the DSN through it; its streams in single bytes on both sides if `split`."""
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(open_proxy())
        if split:
            dsn = await stack.enter_async_context(single_bytes(dsn))
        ours = await proxy.listen(3, dsn)
        yield proxy, await stack.enter_async_context(single_bytes(ours)) if split else ours


async def until(connection: psycopg.AsyncConnection[Any], query: LiteralString, wanted: object) -> None:
    """Wait until a query's only value is the wanted one."""
    while (row := await (await connection.execute(query)).fetchone()) is None or row[0] != wanted:  # noqa: ASYNC110
        await asyncio.sleep(0.003)


@contextlib.asynccontextmanager
async def single_bytes(dsn: str) -> AsyncIterator[str]:
    """A DSN that leads to the same server, with both streams written one byte at a time."""
    loop = asyncio.get_running_loop()
    [upstream] = upstreams_of(dsn)
    tasks: set[asyncio.Task[None]] = set()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def accept() -> None:
        while True:
            client, _ = await loop.sock_accept(listening)
            server = socket.socket(socket.AF_UNIX if upstream.path is not None else socket.AF_INET)
            server.setblocking(False)
            await loop.sock_connect(server, upstream.path or (upstream.host, upstream.port))
            for sock in (client, server):
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks.update({loop.create_task(_copy(client, server)), loop.create_task(_copy(server, client))})

    tasks.add(loop.create_task(accept()))
    try:
        yield through(dsn, [listening.getsockname()[1]])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listening.close()


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Byte by byte, until the stream ends; how it ends is passed on."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, 4096):
            for byte in data:
                await loop.sock_sendall(sink, bytes([byte]))
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        with contextlib.suppress(OSError):
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sink.shutdown(socket.SHUT_RDWR)
