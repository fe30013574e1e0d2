"""Workers in containers: each connects back to a socket of ours in a mounted folder."""

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Any, Final

from docker.errors import APIError, NotFound

from duress.scenarios.docker.daemon import Daemon
from duress.scenarios.docker.image import PYTHON, Code
from duress.scenarios.procs.births import Process

INSIDE: Final = "/mnt/duress/run"
CONNECTING_BOUND: Final = 60.0  # seconds until a container that was started has connected back


class Contained:
    """A worker's container. `pid` is that of its first process, as the host has it."""

    def __init__(self, daemon: Daemon, container: Any, pid: int, ended: "asyncio.Future[int]", log: Path) -> None:
        self.pid = pid
        self.container = container
        self.returncode: int | None = None
        self._daemon = daemon
        self._log = log
        self.end = asyncio.ensure_future(self._watch(ended))

    async def wait(self) -> int:
        return await asyncio.shield(self.end)

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(NotFound, APIError):  # it has ended, or was not paused
            if number == signal.SIGCONT:
                self.container.unpause()
            else:
                self.container.kill(number.name)

    async def _watch(self, ended: "asyncio.Future[int]") -> int:
        status = await ended
        said: bytes = await self._daemon.ask(self.container.logs)
        self._log.write_bytes(said)
        self.returncode = 128 - status if status > 128 else status  # a shell's way to say which signal it was
        return self.returncode


class Births:
    """Bears workers for one run. `folder` is the host's side of what is mounted at `INSIDE`."""

    def __init__(
        self, daemon: Daemon, image: str, code: Code, network: str, folder: Path, scenario: str, canary: str | None
    ) -> None:
        self._daemon = daemon
        self._image = image
        self._code = code
        self._network = network
        self._folder = folder
        self._arguments = [scenario, *([canary] if canary else [])]
        self._count = 0
        self._all: list[Any] = []

    async def worker(self, number: int, log: Path) -> tuple[Process, socket.socket]:
        """A new worker that has connected back."""
        self._count += 1
        name = f"agent-{number}.{self._count}.sock"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self._folder / name))
            listening.listen(1)
            listening.setblocking(False)
            process = await self._start(number, name, log)
            connecting = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(listening))
            try:
                await asyncio.wait(
                    {connecting, process.end}, timeout=CONNECTING_BOUND, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                connecting.cancel()
            if connecting.done() and not connecting.cancelled():
                return process, connecting.result()[0]
        process.signal(signal.SIGKILL)
        ours, theirs = socket.socketpair()
        theirs.close()  # the crew hears the end, and says it with the last words from the log
        return process, ours

    async def remove(self) -> None:
        """Remove the containers of this run; all have ended, or are ended now."""
        for container in self._all:
            with contextlib.suppress(NotFound):
                await self._daemon.ask(container.remove, force=True, v=True)

    async def _start(self, number: int, name: str, log: Path) -> "Contained":
        daemon = self._daemon
        container = await daemon.ask(
            daemon.client.containers.create,
            self._image,
            [PYTHON, "-m", "duress.scenarios.docker.worker", f"{INSIDE}/{name}", *self._arguments],
            network=self._network,
            name=f"duress-{os.getpid()}-{self._folder.name}-worker-{number}.{self._count}",
            environment=self._code.environment,
            volumes={**self._code.volumes, str(self._folder): {"bind": INSIDE, "mode": "rw"}},
            labels=daemon.labels,
        )
        self._all.append(container)
        ended = daemon.ended(container.id)
        await daemon.ask(container.start)
        state = (await daemon.inspect(container.id))["State"]
        return Contained(daemon, container, int(state["Pid"]), ended, log)
