"""A Toxiproxy server as a Network: one proxy for each worker and server, and a toxic for each way of being slow.

toxiproxy-python 0.1.1 is used for its requests only: its objects keep host and port on a class that all share, wait for ever
for a server that does not answer, and take every status 400 for an invalid toxic and every 500 for a success.
"""

import asyncio
import contextlib
import itertools
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, Final

import requests
from psycopg.conninfo import conninfo_to_dict
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from duress.faults.network import NetworkUnavailable
from duress.faults.proxy.control import addresses_of, through
from duress.faults.proxy.orders import Ending, Shape, Sides
from duress.faults.toxiproxy.server import find_toxiproxy, running
from duress.faults.worlds import NetworkName

ANSWER_BOUND: Final = 5.0  # seconds for one request
STREAMS: Final = {"to-server": ("upstream",), "to-worker": ("downstream",), "both": ("upstream", "downstream")}
# Milliseconds. What a latency toxic holds passes on when the toxic goes; what a timeout toxic holds is lost, and its
# connections are closed.
FOR_EVER: Final = 10**9
_numbers = itertools.count(1)


class ToxiproxyError(NetworkUnavailable):
    """The Toxiproxy server did not do what it was told."""


class ToxiproxyNetwork:
    """A running server's proxies that are ours; their names tell them from those of others."""

    def __init__(self, host: str, port: int) -> None:
        self.name: NetworkName = "toxiproxy"
        self.tcp_only = True
        self._api: Any = type("Api", (APIConsumer,), {"host": host, "port": port})
        self._prefix = f"duress-{os.getpid()}-{next(_numbers)}"
        self._proxies: defaultdict[int, list[str]] = defaultdict(list)

    async def listen(self, worker: int, dsn: str) -> str:
        """One proxy for each server that the DSN names, which must be reached over TCP."""
        ports = []
        for host, port in self.check(dsn):
            name = f"{self._prefix}-{worker}-{len(self._proxies[worker])}"
            body = {"name": name, "listen": "127.0.0.1:0", "upstream": f"{host}:{port}"}
            made = await self._call("post", "/proxies", body)
            self._proxies[worker].append(name)
            ports.append(int(made["listen"].rpartition(":")[2]))
        return through(dsn, ports)

    def check(self, dsn: str) -> list[tuple[str, str]]:
        """The servers' hosts and ports. Raises NetworkUnavailable for one that is not reached over TCP."""
        addresses = addresses_of(conninfo_to_dict(dsn))
        for host, _ in addresses:
            if host.startswith(("/", "@")):
                raise NetworkUnavailable(
                    f"Toxiproxy reaches servers over TCP only, and the DSN names the unix socket {host}: name a host, or use"
                    " --network proxy"
                )
        return addresses

    async def close_port(self, worker: int) -> None:
        for name in self._proxies.pop(worker, []):
            await self._call("delete", f"/proxies/{name}")

    async def drop(self, worker: int, ending: Ending = "fin") -> int:
        """By FIN: Toxiproxy resets only connections that were made after it was told so."""
        if ending != "fin":
            raise ToxiproxyError("Toxiproxy cannot reset the connections that there are; use fin, or --network proxy")
        await self.refuse(worker, on=True)
        await self.refuse(worker, on=False)
        return 0

    async def refuse(self, worker: int, *, on: bool) -> None:
        """A disabled proxy also ends its connections."""
        for name in self._proxies[worker]:
            await self._call("post", f"/proxies/{name}", {"enabled": not on})

    async def withhold(self, worker: int, sides: Sides = "both") -> None:
        await self._add(worker, "withhold", "latency", sides, {"latency": FOR_EVER})

    async def release(self, worker: int, *, alive: bool = True) -> None:
        if not alive:
            await self.refuse(worker, on=True)
        await self._remove(worker, "withhold")
        if not alive:
            await self.refuse(worker, on=False)

    async def slow(self, worker: int, shape: Shape | None, sides: Sides = "both") -> None:
        """Toxiproxy's jitter goes both ways from the latency, and its rate is in whole kilobytes per second."""
        for name in ("latency", "bandwidth"):
            await self._remove(worker, name)
        if shape is not None:
            middle, half = shape.latency + shape.jitter / 2, shape.jitter / 2
            late = {"latency": round(middle * 1000), "jitter": round(half * 1000)}
            await self._add(worker, "latency", "latency", sides, late)
            if shape.bandwidth is not None:
                rate = {"rate": max(1, round(shape.bandwidth / 1000))}
                await self._add(worker, "bandwidth", "bandwidth", sides, rate)

    async def _add(self, worker: int, name: str, kind: str, sides: Sides, attributes: dict[str, int]) -> None:
        for proxy in self._proxies[worker]:
            for stream in STREAMS[sides]:
                toxic = {"name": f"{name}-{stream}", "type": kind, "stream": stream, "attributes": attributes}
                await self._call("post", f"/proxies/{proxy}/toxics", toxic)

    async def _remove(self, worker: int, name: str) -> None:
        for proxy in self._proxies[worker]:
            for stream in STREAMS["both"]:
                with contextlib.suppress(NotFound):
                    await self._call("delete", f"/proxies/{proxy}/toxics/{name}-{stream}")

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request in a thread. Raises ToxiproxyError, or NotFound."""
        arguments = {} if body is None else {"json": body}
        try:
            send = getattr(self._api, method)
            response = await asyncio.to_thread(send, path, timeout=ANSWER_BOUND, **arguments)
        except (InvalidToxic, ProxyExists, requests.RequestException) as error:
            raise ToxiproxyError(f"Toxiproxy: {method} {path} {body or ''}: {error}") from None
        if not response.ok:
            raise ToxiproxyError(f"Toxiproxy: {method} {path} {body or ''}: {response.status_code} {response.text}")
        return response.json() if response.content else None


@contextlib.asynccontextmanager
async def open_toxiproxy() -> AsyncIterator[ToxiproxyNetwork]:
    """A server of ours, or the one that DURESS_TOXIPROXY names; our proxies go with the block. Raises NoToxiproxy."""
    async with running(find_toxiproxy()) as (host, port):
        network = ToxiproxyNetwork(host, port)
        try:
            yield network
        finally:
            for worker in list(network._proxies):
                await network.close_port(worker)
