"""What happens to the connections of a worker, seen by the kernel's tables and by sessions of our own on the same way.

Nothing here knows how a fault is injected; see `duress.faults.observe`.
"""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from duress.faults.observe import APPLICATION_NAME

TABLE = Path("/proc/net/tcp")
ESTABLISHED, LISTENING = "01", "0A"  # include/net/tcp_states.h
SILENCE = 0.15  # seconds without an answer, in which others are answered
_numbers = itertools.count(1)


def ports_of(dsn: str) -> frozenset[int]:
    """The ports that a DSN leads to."""
    return frozenset(int(port) for port in str(conninfo_to_dict(dsn).get("port") or 5432).split(","))


@dataclass(frozen=True, slots=True)
class _Socket:
    local: int
    remote: int
    state: str


class SocketWatch:
    """The connections that led to some ports of this machine when the watch began, by the ports of their other ends."""

    def __init__(self, ports: frozenset[int]) -> None:
        self._ports = ports
        self.first = self._connected()

    def gone(self) -> str | None:
        """None of those connections is established any more."""
        if not self.first or self.first & self._connected():
            return None
        return f"{len(self.first)} connections to port {self._named()} are no longer established"

    def gone_from(self, local: int) -> str | None:
        """The connection from that port is not."""
        if local in self._connected():
            return None
        return f"the connection from port {local} to port {self._named()} is no longer established"

    def refused(self) -> str | None:
        """Nobody listens there, connecting is refused, and the connections that there were are gone."""
        if self._listening() or self.first & self._connected():
            return None
        for port in self._ports:
            with socket.socket() as knocking:
                knocking.settimeout(1.0)
                with contextlib.suppress(ConnectionRefusedError):
                    knocking.connect(("127.0.0.1", port))
                    return None
        return f"nobody listens on port {self._named()}, and a connection to it is refused"

    def accepted(self) -> str | None:
        """All ports are listened to."""
        if self._listening() != self._ports:
            return None
        return f"port {self._named()} is listened to again"

    def _named(self) -> str:
        return ", ".join(map(str, sorted(self._ports)))

    def _connected(self) -> frozenset[int]:
        return frozenset(one.local for one in _sockets() if one.state == ESTABLISHED and one.remote in self._ports)

    def _listening(self) -> frozenset[int]:
        return frozenset(one.local for one in _sockets() if one.state == LISTENING and one.local in self._ports)


def _sockets() -> Iterator[_Socket]:
    """The kernel's TCP sockets over IPv4, by port (proc_net_tcp.rst)."""
    for line in TABLE.read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        yield _Socket(int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16), state)


class Probe:
    """A session of ours that goes the way of a worker, and one that goes straight to the server, to compare.

    An async context manager; entering raises psycopg.OperationalError where the server does not answer.
    """

    def __init__(self, link: str, dsn: str) -> None:
        self._links, self._dsn = link, dsn
        self._asked: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._marker = 0

    async def __aenter__(self) -> Self:
        self._direct = await self._connect(self._dsn)
        try:
            self._link = await self._connect(self._links)
        except BaseException:
            await self._direct.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.wait([self._asked])
        for connection in (self._link, self._direct):
            connection.pgconn.finish()  # without a word: nobody may be there to take it

    async def round_trip(self) -> float:
        """Seconds that a question and its answer take on the worker's way, the quickest of five."""
        took = []
        for _ in range(5):
            began = time.monotonic()
            await self._link.execute("select 1")
            took.append(time.monotonic() - began)
        return min(took)

    async def unanswered(self) -> str | None:
        """Whether a question on the worker's way is not answered, though the server answers others."""
        if self._asked is None or self._asked.done():
            self._marker = next(_numbers)
            self._asked_at = time.monotonic()
            self._asked = asyncio.create_task(self._ask(f"select {self._marker} as probe"))
            return None
        if time.monotonic() < self._asked_at + SILENCE:
            return None
        heard = "select query from pg_stat_activity where pid = %s"
        row = await (await self._direct.execute(heard, [self._link.info.backend_pid])).fetchone()
        if self._asked.done() or row is None:
            return None
        if row[0] == f"select {self._marker} as probe":
            return "the server has heard a probe's question, and no answer arrives"
        return "a probe's question does not reach the server"

    def settled(self) -> str | None:
        """The question has been answered, or its connection is lost."""
        if self._asked is None or not self._asked.done():
            return None
        return "the probe's connection is lost" if self._link.closed else "the probe's question has been answered"

    async def listen(self) -> None:
        """Hear notifications on the worker's way, and straight."""
        self._channel = f"duress_probe_{next(_numbers)}"
        for connection in (self._link, self._direct):
            await connection.execute(f"listen {self._channel}".encode())

    async def unheard(self) -> str | None:
        """Whether a notification reaches other sessions and not the one on the worker's way."""
        direct, link = await self._notify()
        return "a notification reaches another session, and not a probe's" if direct and not link else None

    async def heard(self) -> str | None:
        """Whether one reaches the session on the worker's way."""
        _, link = await self._notify()
        return "a notification reaches a probe's session" if link else None

    async def _notify(self) -> tuple[bool, bool]:
        payload = str(next(_numbers))
        await self._direct.execute("select pg_notify(%s, %s)", [self._channel, payload])
        reached = [await _hears(connection, payload) for connection in (self._direct, self._link)]
        return reached[0], reached[1]

    async def _ask(self, question: str) -> None:
        with contextlib.suppress(psycopg.Error):
            await self._link.execute(question.encode())

    async def _connect(self, dsn: str) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, application_name=APPLICATION_NAME, connect_timeout=2
        )


async def _hears(connection: psycopg.AsyncConnection[Any], payload: str) -> bool:
    """Whether a notification arrives within `SILENCE`; what was left of earlier ones is taken."""
    return any([one.payload == payload async for one in connection.notifies(timeout=SILENCE, stop_after=1)])
