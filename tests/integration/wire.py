"""A wire between a program and PostgreSQL that fails: replies that never arrive, connections that go without a word."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg


class Wire:
    """Forwards TCP connections to the server's socket."""

    def __init__(self, target: str, dsn: str) -> None:
        self._target = target
        self.dsn = dsn
        self.muted = False
        """Whether the server's replies are swallowed."""
        self._open: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._abandoned: list[asyncio.StreamWriter] = []
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        pair = (writer, server_writer)
        self._open.add(pair)
        await asyncio.gather(
            self._carry(reader, server_writer, replies=False), self._carry(server_reader, writer, replies=True)
        )
        self._open.discard(pair)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(65536):
                if not (replies and self.muted):
                    sink.write(piece)
                    await sink.drain()
        if sink not in self._abandoned:
            sink.close()

    def cut(self, *, server_learns: bool = True) -> None:
        """End all connections; the server goes on believing in them unless it learns."""
        for client, server in list(self._open):
            if not server_learns:
                self._abandoned.append(server)
            client.transport.abort()
            if server_learns:
                server.transport.abort()

    async def close(self) -> None:
        self.cut()
        for server in self._abandoned:
            server.transport.abort()
        while self._serving:
            await asyncio.wait(self._serving)


@asynccontextmanager
async def wired(dsn: str) -> AsyncIterator[Wire]:
    """A wire to the server of this DSN, which names a folder with its socket."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    target = f"{parts['host']}/.s.PGSQL.{parts['port']}"
    wire = Wire(target, "")
    listener = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    wire.dsn = psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=port)
    try:
        yield wire
    finally:
        listener.close()
        await wire.close()
