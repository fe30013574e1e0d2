"""The link between a primary and its standby: a TCP relay that takes `latency` seconds one way, and can be cut.

What is under way when the link is cut never arrives, as when the primary's host is lost with what it had not sent yet.
"""

import asyncio
import threading
from types import TracebackType
from typing import Self

CHUNK = 1 << 16
STARTING_BOUND = 10.0  # seconds


class Relay:
    """Listens on 127.0.0.1 and forwards to `port` there. Runs in a thread of its own, with its own event loop: whoever
    uses it may block, and may be busy.
    """

    def __init__(self, port: int, latency: float = 0.0) -> None:
        self.latency = latency
        self._upstream = port
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name="duress replication link", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(STARTING_BOUND)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        """Lose what is under way, at once, and let nobody connect any more. Returns when that is so."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(STARTING_BOUND)

    def close(self) -> None:
        """Cut, and end the thread; may be called twice."""
        if self._loop.is_closed():
            return
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _cut(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            back, upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, upstream, 0.0))
                both.create_task(self._carry(back, writer, self.latency))
        except* (OSError, asyncio.CancelledError):
            pass  # one of the two has gone (the standby connects again), or the link was cut
        finally:
            self._connections.discard(task)
            for one in (writer, upstream):
                if one is not None:
                    one.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latency: float) -> None:
        """Carry one direction, in order, each chunk `latency` after it came; ends the connection with its end."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, chunk = await under_way.get()
                await asyncio.sleep(due - self._loop.time())
                if not chunk:
                    raise ConnectionResetError
                writer.write(chunk)
                await writer.drain()

        async with asyncio.TaskGroup() as both:
            both.create_task(deliver())
            while True:
                chunk = await reader.read(CHUNK)
                under_way.put_nowait((self._loop.time() + latency, chunk))
                if not chunk:
                    break
