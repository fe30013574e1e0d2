"""Small real workers to strike: each holds an idle session and one inside a transaction, and opens lost ones again."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import psycopg

from duress.faults.contention import Contention
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.procs import ProcsInjector
from duress.faults.injectors.target import WorkerProcess
from duress.faults.journal import Journal
from duress.faults.network import Network
from duress.faults.plan import AnyFault, AtPoint, AtTime, Event
from duress.faults.postgres import Server
from duress.faults.postgres.pair import Pair

PROGRAM = """
import os, select, signal, subprocess, sys, threading, time
import psycopg
dsn, name, manners = sys.argv[1:]
child = subprocess.Popen(["sleep", "600"])  # of the same process group
def leave(*_):
    child.kill()
    os._exit(0)
def slowly(*_):
    threading.Timer(0.3, leave).start()
signal.signal(signal.SIGTERM, {"polite": leave, "slow": slowly, "stubborn": signal.SIG_IGN}[manners])
threading.Thread(target=lambda: (sys.stdin.read(), leave()), daemon=True).start()  # ends with whoever started it
while True:
    try:
        idle = psycopg.connect(dsn, application_name=name, autocommit=True)
        inside = psycopg.connect(dsn, application_name=name)
        inside.execute("select txid_current()")
        print(child.pid, idle.info.backend_pid, inside.info.backend_pid, flush=True)
        select.select([idle, inside], [], [])
        idle.close(), inside.close()
    except psycopg.OperationalError:
        time.sleep(0.02)
"""
LIMIT = 20.0  # seconds for anything to happen in a test


@dataclass(frozen=True)
class Ready:
    """What a worker says when it has its sessions."""

    child: int
    idle: int
    inside: int


@dataclass
class Workers:
    """A Target. Incarnations count from 1 over all workers; a worker has joined when it is ready."""

    server: Server | None
    dsn: str
    manners: str = "polite"  # what they do at SIGTERM: end ("polite"), end after 0.3 s ("slow"), nothing ("stubborn")
    processes: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    incarnations: dict[int, int] = field(default_factory=dict)
    respawned: list[int] = field(default_factory=list)
    pair: Pair | None = None
    contention: Contention | None = None
    lost: list[str] = field(default_factory=list)  # what the standby said when the primary was lost
    network: Network | None = None

    def link(self, worker: int) -> str:
        return self.dsn

    def process(self, worker: int) -> WorkerProcess | None:
        process = self.processes.get(worker)
        if process is None or process.returncode is not None:
            return None
        return WorkerProcess(worker, process.pid, process.pid, self.incarnations.get(process.pid))

    async def primary_lost(self) -> None:
        assert self.pair is not None
        async with await psycopg.AsyncConnection.connect(self.pair.standby.dsn()) as connection:
            row = await (await connection.execute("select pg_is_in_recovery()")).fetchone()
            self.lost.append(f"in recovery: {row}")
        self.server = self.pair.standby

    async def respawn(self, worker: int) -> None:
        self.respawned.append(worker)
        await self.processes[worker].wait()
        await self.spawn(worker)

    async def spawn(self, worker: int) -> None:
        number = len(self.incarnations) + 1
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, self.dsn, f"duress:{number}", self.manners),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=0,
        )
        self.incarnations[process.pid] = number
        self.processes[worker] = process

    async def ready(self, worker: int) -> Ready:
        """Wait until the worker has opened its sessions (again)."""
        out = self.processes[worker].stdout
        assert out is not None
        line = await asyncio.wait_for(out.readline(), LIMIT)
        return Ready(*map(int, line.split()))

    async def close(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGCONT)
                assert process.stdin is not None
                process.stdin.close()
        for process in self.processes.values():
            await asyncio.wait_for(process.wait(), LIMIT)


@asynccontextmanager
async def struck(
    server: Server, folder: Path, *, ours: bool = True, workers: int = 1, manners: str = "polite", **patience: float
) -> AsyncIterator[tuple[Workers, ProcsInjector, list[Ready]]]:
    """Workers that are ready, and an injector to strike them with; `ours` is False for a user's own server."""
    target = Workers(server if ours else None, server.dsn(), manners)
    try:
        for number in range(workers):
            await target.spawn(number)
        ready = [await target.ready(number) for number in range(workers)]
        journal = Journal(folder)
        async with ProcsInjector(target, clock=monotonic, journal=journal, patience=Patience(**patience)) as injector:
            yield target, injector, ready
    finally:
        await target.close()


def now(fault: AnyFault) -> Event:
    """The event as a time trigger has it: the victim is not held."""
    return Event(trigger=AtTime(seconds=0), fault=fault, worker=0)


def held(fault: AnyFault) -> Event:
    """The event as a point trigger has it: the victim waits at its point until `inject` returns."""
    return Event(trigger=AtPoint(point="step.committing"), fault=fault, worker=0)


def state(pid: int) -> str:
    """The state letter of a process, read by the test itself; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that the operating system does in its own time."""
    async with asyncio.timeout(LIMIT):
        while not true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
