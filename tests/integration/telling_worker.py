"""Worker processes that only tell points, as fast as they can: the wiring of the procs world without an engine."""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import ParamSpec

from duress.scenarios.points import Armed, Reported
from duress.scenarios.procs.births import Process
from duress.scenarios.procs.crew import Crew
from duress.scenarios.procs.wire import Orders
from duress.scenarios.recorder import Recorder
from duress.scenarios.settings import Settings

# Tells "step.started" with a running number, and only then writes the number down in a file.
PROGRAM = """
import os, socket, sys
from duress.scenarios.procs.agent import Agent
from duress.faults.deathbed import die_with
descriptor, parent = map(int, sys.argv[1:])
die_with(parent)
agent = Agent(socket.socket(fileno=descriptor))
orders = agent.orders()
told = os.open(orders.dsn + "." + orders.name, os.O_CREAT | os.O_WRONLY)
if orders.settings.schema == "quits":
    print("I quit"); sys.exit(9)
agent.point("worker.joined", {"worker": orders.name, "incarnation": os.getpid(), "lease_until": 0.0})
number = 0
while True:
    agent.point("step.started", {"name": "charge" if number % 2 else "debit", "number": number})
    os.pwrite(told, b"%12d" % number, 0)
    number += 1
"""
LIMIT = 20.0  # seconds for anything to happen in a test
P = ParamSpec("P")


def in_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Spawned:
    """A process as the crew knows it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.wait = process.wait

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Told:
    """A crew, what it recorded, and what its workers wrote down."""

    def __init__(self, crew: Crew, recorder: Recorder, folder: Path) -> None:
        self.crew = crew
        self.recorder = recorder
        self.folder = folder

    def written(self, worker: int) -> int:
        """The last number that the worker wrote down; -1 before the first."""
        return int((self.folder / f"told.worker-{worker}").read_bytes() or b"-1")

    def heard(self, worker: int) -> list[int]:
        """The numbers that the worker told, in order."""
        return [
            entry.facts["number"]
            for entry in self.recorder.history()
            if entry.source == f"worker {worker}" and entry.name == "step.started"
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it."""
        async with asyncio.timeout(LIMIT):
            while not condition():  # noqa: ASYNC110  # it is about other processes
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def telling(
    folder: Path,
    *,
    armed: tuple[Armed, ...] = (),
    held: Callable[[int, Reported], Awaitable[None]] | None = None,
    schema: str = "",
    program: str = PROGRAM,
) -> AsyncIterator[Told]:
    """A crew that has not started yet; nothing of it is left on leaving."""

    async def go_on(worker: int, report: Reported) -> None:
        pass

    def orders(number: int) -> Orders:
        return Orders(
            dsn=str(folder / "told"),
            name=f"worker-{number}",
            settings=Settings(schema=schema),
            receiver="",
            armed=(),
        )

    async def spawn(number: int, log: Path) -> tuple[Process, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs, log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", program, str(theirs.fileno()), str(os.getpid())),
                pass_fds=(theirs.fileno(),),
                process_group=0,
                stdout=output,
                stderr=output,
            )
        return Spawned(process), ours

    recorder = Recorder()
    crew = Crew(orders, lambda worker: armed, held or go_on, recorder, folder, spawn)
    try:
        yield Told(crew, recorder, folder)
    finally:
        await crew.kill()


def state(pid: int) -> str:
    """The state letter in /proc/<pid>/stat; empty when there is no such process, or it has ended."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if letter in "ZX" else letter
