"""The harness's side of the nursery: asks for workers, and learns how they ended."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

from duress.scenarios.registry import search_path

STARTING_BOUND = 30.0  # seconds for the nursery's imports


class NurseryLost(Exception):
    """The process that bears workers has ended, or does not answer."""


class Process(Protocol):
    """A process that somebody reaps."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...
    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to all that it has started; it may be gone."""


class Worker:
    """A worker's process, reaped by the nursery. `returncode` is as subprocess has it: -9 for SIGKILL."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


class Nursery:
    """Bears workers one at a time."""

    def __init__(self, control: socket.socket, reader: asyncio.StreamReader) -> None:
        self._control = control
        self._reader = reader
        self._one = asyncio.Lock()
        self._births: asyncio.Queue[int | None] = asyncio.Queue()
        self._living: dict[int, Worker] = {}
        self._ended_early: dict[int, int] = {}

    async def spawn(self, agent: int, output: int) -> Process:
        """A new worker that talks through the socket `agent` and writes to the file `output`. Raises NurseryLost."""
        async with self._one:
            try:
                socket.send_fds(self._control, [b"!"], [agent, output])
            except OSError as error:
                raise NurseryLost(f"no worker can be started: {error}") from error
            pid = await self._births.get()
            if pid is None:
                raise NurseryLost("the process that starts workers has ended")
            worker = Worker(pid)
            if pid in self._ended_early:
                worker.end(self._ended_early.pop(pid))
            else:
                self._living[pid] = worker
            return worker

    async def worker(self, number: int, log: Path) -> tuple[Process, socket.socket]:
        """A new worker that writes to `log`, and our end of its connection. Raises NurseryLost."""
        ours, theirs = socket.socketpair()
        try:
            with theirs, log.open("wb") as output:
                return await self.spawn(theirs.fileno(), output.fileno()), ours
        except BaseException:
            ours.close()
            raise

    async def listen(self) -> None:
        """Hear the nursery until it ends; with it ended all workers."""
        while (line := await self._reader.readline()).endswith(b"\n"):
            message = json.loads(line)
            if "born" in message:
                self._births.put_nowait(message["born"])
            elif "died" in message:
                if (worker := self._living.pop(message["died"], None)) is not None:
                    worker.end(message["code"])
                else:  # so quick that its birth has not been seen yet
                    self._ended_early[message["died"]] = message["code"]
        for worker in self._living.values():
            worker.end(-9)
        self._births.put_nowait(None)


@contextlib.asynccontextmanager
async def open_nursery(
    scenario: str, canary: str | None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Nursery]:
    """A nursery for a scenario's workers, which inherit `environment` too; on leaving, it and all its workers end. Raises
    NurseryLost.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        # In the event loop's thread, which lives as long as the harness: PR_SET_PDEATHSIG is about a thread.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "duress.scenarios.procs.nursery", str(theirs.fileno()), str(os.getpid())),
            pass_fds=(theirs.fileno(),),
            process_group=0,
            env={**os.environ, "PYTHONPATH": search_path(), **(environment or {})},
            stdin=subprocess.DEVNULL,
        )
    # Descriptors are sent on a duplicate: asyncio's own socket is in its hands.
    control = ours.dup()
    reader, writer = await asyncio.open_connection(sock=ours)
    listening = None
    try:
        writer.write(json.dumps({"scenario": scenario, "canary": canary}).encode())
        try:
            async with asyncio.timeout(STARTING_BOUND):
                ready = await reader.readline()
        except TimeoutError:
            ready = b""
        if not ready:
            raise NurseryLost(f"scenario {scenario!r} could not be imported in a process of its own; see above")
        nursery = Nursery(control, reader)
        listening = asyncio.create_task(nursery.listen())
        yield nursery
    finally:
        writer.close()
        control.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if listening is not None:
            await listening
