"""The harness's side of the proxy: start it, tell it what to break, hear when it broke."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from duress.faults.network import NetworkUnavailable
from duress.faults.proxy import orders
from duress.faults.proxy.orders import AnyOrder, Ending, Fired, Reply, Rule, Shape, Sides, Told, Upstream
from duress.faults.worlds import NetworkName

STARTING_BOUND = 30.0  # seconds for the process's imports
_ENCRYPTING = ("require", "verify-ca", "verify-full")

_decode = msgspec.json.Decoder(Told).decode
_encode = msgspec.json.Encoder().encode


class ProxyLost(Exception):
    """The proxy's process has ended, or cannot do what it was told."""


class UnsuitableServer(NetworkUnavailable):
    """The proxy cannot stand in front of the server that a DSN names; the message says why."""


class Proxy:
    """A running proxy. `open_proxy` makes one."""

    def __init__(self, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter) -> None:
        self.name: NetworkName = "proxy"
        self.tcp_only = False
        self.pid = process.pid
        self._folder = Path.cwd()
        self._writer = writer
        self._number = 0
        self._replies: dict[int, asyncio.Future[int]] = {}
        self._fired: dict[int, asyncio.Queue[Fired]] = {}
        self._gone = False

    async def listen(self, worker: int, dsn: str) -> str:
        """Open a port for a worker, or one for each host of `dsn`; returns the DSN that leads through them to the same
        database. Raises UnsuitableServer.
        """
        ports = [
            await self._order(orders.Listen(number=0, worker=worker, upstream=upstream))
            for upstream in upstreams_of(dsn)
        ]
        return through(dsn, ports)

    def check(self, dsn: str) -> list[Upstream]:
        """The servers before which it would stand. Raises UnsuitableServer."""
        return upstreams_of(dsn)

    async def close_port(self, worker: int) -> None:
        """End the worker's connections and give its ports back."""
        await self._order(orders.Close(number=0, worker=worker))

    async def repoint(self, worker: int, dsn: str) -> None:
        """Take the worker's new connections to another server."""
        await self._order(orders.Repoint(number=0, worker=worker, upstream=upstreams_of(dsn)[0]))

    async def arm(self, worker: int, rule: Rule) -> int:
        """Wait for a message of the worker; returns the rule's number."""
        number = await self._order(orders.Arm(number=0, worker=worker, rule=rule))
        self._fired.setdefault(number, asyncio.Queue())
        return number

    async def fired(self, rule: int) -> Fired:
        """Wait until a rule strikes; each strike is told once. Raises ProxyLost."""
        told = await self._fired.setdefault(rule, asyncio.Queue()).get()
        if told.worker < 0:
            self._fired[rule].put_nowait(told)
            raise ProxyLost("the proxy has ended")
        return told

    async def struck(self, rule: int) -> int:
        """Wait until a rule strikes; returns the port of the worker's end of that connection. Raises ProxyLost."""
        return (await self.fired(rule)).peer

    async def withdraw(self, worker: int, rule: int) -> bool:
        """Forget a rule, and let go what it holds; whether it was still armed."""
        was = await self._order(orders.Withdraw(number=0, worker=worker, rule=rule))
        self._fired.pop(rule, None)
        return bool(was)

    async def withhold(self, worker: int, sides: Sides = "both") -> None:
        """Partition: keep what passes; the connections stay up."""
        await self._order(orders.Withhold(number=0, worker=worker, sides=sides))

    async def release(self, worker: int, *, alive: bool = True) -> None:
        """Heal a partition: what was kept arrives in order, or (not `alive`) the connections are reset."""
        await self._order(orders.Release(number=0, worker=worker, alive=alive))

    async def slow(self, worker: int, shape: Shape | None, sides: Sides = "both") -> None:
        """Make the link slow; None: fast again."""
        await self._order(orders.Slow(number=0, worker=worker, sides=sides, shape=shape))

    async def refuse(self, worker: int, *, on: bool) -> None:
        """Whether connecting is refused."""
        await self._order(orders.Refuse(number=0, worker=worker, on=on))

    async def drop(self, worker: int, ending: Ending = "rst", connection: int | None = None) -> int:
        """End all connections of the worker, or one; returns how many there were."""
        return await self._order(orders.DropConnections(number=0, worker=worker, ending=ending, connection=connection))

    async def save_log(self, path: Path, worker: int | None = None, since: float = 0.0) -> int:
        """Write the messages that have passed `since` then as JSON lines; returns how many."""
        whose = -1 if worker is None else worker
        return await self._order(orders.SaveLog(number=0, worker=whose, path=str(self._folder / path), since=since))

    async def _order(self, order: AnyOrder) -> int:
        if self._gone:
            raise ProxyLost("the proxy has ended")
        self._number += 1
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._replies[self._number] = reply
        self._writer.write(_encode(msgspec.structs.replace(order, number=self._number)) + b"\n")
        return await reply

    async def hear(self, reader: asyncio.StreamReader) -> None:
        """Hear the proxy until it ends."""
        with contextlib.suppress(OSError):  # it ended while we spoke
            while (line := await reader.readline()).endswith(b"\n"):
                told = _decode(line)
                if isinstance(told, Fired):
                    self._fired.setdefault(told.rule, asyncio.Queue()).put_nowait(told)
                else:
                    self._settle(told)
        self._gone = True
        for number in list(self._replies):
            self._settle(Reply(number=number, error="it has ended"))
        for rule, queue in self._fired.items():
            queue.put_nowait(Fired(rule=rule, at=0.0, worker=-1, peer=0, what="", spent=True))

    def _settle(self, told: Reply) -> None:
        reply = self._replies.pop(told.number)
        if reply.done():
            return  # nobody waits any more
        if told.error is None:
            reply.set_result(told.value)
        else:
            reply.set_exception(ProxyLost(f"the proxy (process {self.pid}): {told.error}"))


@contextlib.asynccontextmanager
async def open_proxy(*, values: bool = False) -> AsyncIterator[Proxy]:
    """A proxy in a process of its own, which ends with this one, however it ends. `values`: its log may show SQL."""
    ours, theirs = socket.socketpair()
    with theirs:
        # In the event loop's thread, which lives as long as the harness: PR_SET_PDEATHSIG is about a thread.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "duress.faults.proxy.service"),
            *(str(theirs.fileno()), str(os.getpid()), str(int(values))),
            pass_fds=(theirs.fileno(),),
            process_group=0,
            stdin=subprocess.DEVNULL,
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    proxy = Proxy(process, writer)
    hearing = asyncio.create_task(proxy.hear(reader))
    try:
        yield proxy
    finally:
        writer.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await hearing


def upstreams_of(dsn: str) -> list[Upstream]:
    """Where the servers that a DSN names listen. Raises UnsuitableServer."""
    parts = conninfo_to_dict(dsn)
    for name, refused in (("sslmode", _ENCRYPTING), ("channel_binding", ("require",)), ("gssencmode", ("require",))):
        if parts.get(name) in refused:
            raise UnsuitableServer(
                f"the DSN asks for {name}={parts[name]}, and the proxy has to read what it passes on: allow an unencrypted"
                " connection (sslmode=prefer), or use --network none"
            )
    return [_upstream(host, port) for host, port in addresses_of(parts)]


def addresses_of(parts: Mapping[str, object]) -> list[tuple[str, str]]:
    """The hosts and ports of a DSN's parts, as libpq pairs them."""
    hosts = str(parts.get("hostaddr") or parts.get("host") or "/var/run/postgresql").split(",")
    ports = str(parts.get("port") or "5432").split(",")
    return [(host, ports[at] if len(ports) > 1 else ports[0]) for at, host in enumerate(hosts)]


def _upstream(host: str, port: str) -> Upstream:
    if host.startswith(("/", "@")):
        return Upstream(path=f"{host.replace('@', chr(0), 1)}/.s.PGSQL.{port}")
    return Upstream(host=host, port=int(port))


def through(dsn: str, ports: Sequence[int]) -> str:
    """The DSN that leads to the same database through ports of ours."""
    parts = {name: value for name, value in conninfo_to_dict(dsn).items() if name not in ("hostaddr", "host", "port")}
    hosts = ",".join("127.0.0.1" for _ in ports)
    return make_conninfo("", **parts, host=hosts, port=",".join(map(str, ports)))
