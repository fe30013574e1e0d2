"""The Docker daemon, asked from an event loop; everything that is created bears the harness's label."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import docker

from duress.faults import containers

P = ParamSpec("P")
T = TypeVar("T")
THREADS: Final = 16


class Daemon:
    """`ask` runs a call of docker-py in a thread; `ended` is told by the daemon's own events."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.client = client
        self.mark = containers.mark(os.getpid())
        self.labels = {containers.LABEL: self.mark}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="duress docker")
        self._loop = asyncio.get_running_loop()
        self._ends: dict[str, asyncio.Future[int]] = {}
        filters = {"type": "container", "event": "die", "label": f"{containers.LABEL}={self.mark}"}
        self._events = client.events(decode=True, filters=filters)
        self._listening = threading.Thread(target=self._listen, name="duress docker events", daemon=True)
        self._listening.start()

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it in a thread."""
        return await self._loop.run_in_executor(self._threads, partial(call, *args, **kwargs))

    def ended(self, id_: str) -> "asyncio.Future[int]":
        """The exit status of the container's next end. To be asked for before it can end."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._ends[id_] = future
        return future

    async def inspect(self, id_: str) -> dict[str, Any]:
        """What the daemon says about a container now."""
        said: dict[str, Any] = await self.ask(self.client.api.inspect_container, id_)
        return said

    async def close(self) -> None:
        """Remove everything that bears our label, and stop listening."""
        await self.ask(containers.remove_all_of, self.client, self.mark)
        with contextlib.suppress(Exception):  # whatever a stream says that is closed while it is read
            self._events.close()
        self._threads.shutdown(wait=False)
        self.client.close()

    def _listen(self) -> None:
        with contextlib.suppress(Exception):  # the stream was closed
            for event in self._events:
                status = int(event["Actor"]["Attributes"].get("exitCode", 0))
                self._loop.call_soon_threadsafe(self._died, event["Actor"]["ID"], status)

    def _died(self, id_: str, status: int) -> None:
        future = self._ends.pop(id_, None)
        if future is not None and not future.done():
            future.set_result(status)


@contextlib.asynccontextmanager
async def open_daemon() -> AsyncIterator[Daemon]:
    """The daemon; on leaving, whatever happened, nothing of ours is left there. Raises containers.NoDocker."""
    daemon = Daemon(await asyncio.to_thread(containers.connect))
    try:
        yield daemon
    finally:
        await asyncio.shield(asyncio.ensure_future(daemon.close()))
