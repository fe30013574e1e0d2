"""The worker processes of one run: started, heard, started again, stopped, and gone with the harness.

Each worker leads its own process group, so that a signal reaches all of it and a terminal's Ctrl-C none of it.
"""

import asyncio
import contextlib
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from duress.engine import observer
from duress.faults.injectors.target import WorkerProcess
from duress.scenarios import history
from duress.scenarios.points import Armed, Reported
from duress.scenarios.procs.births import Process
from duress.scenarios.procs.wire import LINE_LIMIT, Go, Orders
from duress.scenarios.recorder import Recorder

STARTING_BOUND = 30.0  # seconds until a started worker must have joined
GRACE = 5.0  # seconds from SIGTERM to SIGKILL at the end of a run

_decode = msgspec.json.Decoder(Reported).decode
_encode = msgspec.json.Encoder().encode


class WorkerStartFailed(Exception):
    """A worker ended, or did not join in time; the message names its log."""


class Incarnation:
    """One process of a worker, and the connection to the agent in it."""

    def __init__(self, number: int, process: Process, log: Path) -> None:
        self.number = number
        self.pid = process.pid
        self.log = log
        self.incarnation: int | None = None
        self.joined = asyncio.Event()
        self.gone = asyncio.Event()  # reaped, and everything it said was heard
        self.clock: tuple[float, float] | None = (
            None  # when it last told the time, and how far that was off, in seconds
        )
        self.expected = False  # a fault, or the end of the run, ends it
        self.process = process

    def signal(self, *signals: signal.Signals) -> None:
        """Send signals to all of it; a process that was reaped gets none (its number may be another's)."""
        for number in signals:
            if self.process.returncode is None:
                self.process.signal(number)


class Crew:
    """All workers of a run, by number.

    `spawn` starts a process, given the worker's number and a file for its output, and gives it with our end of the
    connection to the agent in it; `held` is awaited while
    a worker stands still at an armed point.
    """

    def __init__(
        self,
        orders: Callable[[int], Orders],
        armed_for: Callable[[int], tuple[Armed, ...]],
        held: Callable[[int, Reported], Awaitable[None]],
        recorder: Recorder,
        logs: Path,
        spawn: Callable[[int, Path], Awaitable[tuple[Process, socket.socket]]],
    ) -> None:
        self._orders = orders
        self._armed_for = armed_for
        self._held = held
        self._recorder = recorder
        self._logs = logs
        self._spawn_process = spawn
        self._now: dict[int, Incarnation] = {}
        self._all: list[Incarnation] = []
        self._awaited: Counter[int] = Counter()  # worker → faults that are about to end it
        self._tasks: set[asyncio.Task[None]] = set()
        self.unplanned: list[str] = []  # workers that ended though nobody ended them
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # the harness's own failure

    def now(self, worker: int) -> Incarnation | None:
        """What is worker `worker` now, if it has not ended."""
        one = self._now.get(worker)
        return None if one is None or one.gone.is_set() else one

    def process(self, worker: int) -> WorkerProcess | None:
        """The process that is worker `worker` now, or None."""
        one = self.now(worker)
        if one is None:
            return None
        return WorkerProcess(number=worker, pid=one.pid, pgid=one.pid, incarnation=one.incarnation)

    def alive(self) -> list[int]:
        """The numbers of the workers that have joined and not ended."""
        return [number for number, one in sorted(self._now.items()) if one.joined.is_set() and not one.gone.is_set()]

    def expect_end(self, worker: int) -> None:
        """The worker's process is about to be ended on purpose: the present one, or one that comes until `expect_no_more`,
        for the present one may be ending already.
        """
        if worker in self._now:
            self._now[worker].expected = True
        self._awaited[worker] += 1

    def expect_no_more(self, worker: int) -> None:
        """It has been ended, or will not be."""
        self._awaited[worker] -= 1

    async def start(self, count: int) -> None:
        """Start `count` workers and wait until all have joined. Raises WorkerStartFailed."""
        for number in range(count):
            await self._spawn(number)
        await asyncio.gather(*(self.joined(number) for number in range(count)))

    async def respawn(self, worker: int) -> None:
        """Start a worker whose process has ended or is about to."""
        if (last := self._now.get(worker)) is not None:
            await last.gone.wait()
        await self._spawn(worker)

    async def joined(self, worker: int) -> None:
        """Return once the worker's present process has joined. Raises WorkerStartFailed."""
        one = self._now[worker]
        waits = [asyncio.ensure_future(event.wait()) for event in (one.joined, one.gone)]
        try:
            await asyncio.wait(waits, timeout=STARTING_BOUND, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not one.joined.is_set():
            what = (
                f"ended ({ending(one.process)})" if one.gone.is_set() else f"did not join within {STARTING_BOUND:g} s"
            )
            raise WorkerStartFailed(f"worker {worker} {what}; its last words, from {one.log}:\n{tail(one.log)}")

    async def stop(self) -> None:
        """End all workers gracefully, then by force; when cancelled, by force at once. None is left."""
        try:
            for one in self._all:
                one.expected = True
                one.signal(signal.SIGTERM, signal.SIGCONT)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await asyncio.gather(*(one.gone.wait() for one in self._all))
        finally:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL to whatever is left, at once."""
        for one in self._all:
            one.expected = True
            one.signal(signal.SIGKILL)
        if self._tasks:
            # What they said last is heard; but a fault that was being injected at a point may not keep us.
            _, late = await asyncio.wait(self._tasks, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _spawn(self, number: int) -> None:
        log = self._logs / f"worker-{number}.{sum(one.number == number for one in self._all)}.log"
        process, ours = await self._spawn_process(number, log)
        one = Incarnation(number, process, log)
        one.expected = self._awaited[number] > 0
        self._now[number] = one
        self._all.append(one)
        self._recorder.add("harness", history.SPAWNED, {"worker": number, "pid": one.pid})
        task = asyncio.create_task(self._attend(one, ours))
        self._tasks.add(task)
        task.add_done_callback(self._attended)

    def _attended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.broken.done():
            self.broken.set_exception(error)

    async def _attend(self, one: Incarnation, ours: socket.socket) -> None:
        """Hear a worker out, to the last line before its end, and reap it."""
        try:
            await self._listen(one, ours)
        finally:
            await one.process.wait()
            code = one.process.returncode
            self._recorder.add(
                "harness",
                history.EXITED,
                {
                    "worker": one.number,
                    "pid": one.pid,
                    "signal": -code if code is not None and code < 0 else None,
                    "code": code if code is not None and code >= 0 else None,
                    "planned": one.expected,
                },
            )
            if not one.expected:
                self.unplanned.append(
                    f"worker {one.number} ended by itself ({ending(one.process)}); its log: {one.log}"
                )
            one.gone.set()

    async def _listen(self, one: Incarnation, ours: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        source = f"worker {one.number}"
        try:
            orders = msgspec.structs.replace(self._orders(one.number), armed=self._armed_for(one.number))
            writer.write(_encode(orders) + b"\n")
            while (line := await reader.readline()).endswith(b"\n"):
                report = _decode(line)
                self._recorder.add(source, report.name, report.facts, report.at)
                if report.wall is not None:
                    one.clock = (report.at, report.wall - report.at - (time.time() - time.monotonic()))
                if report.name == observer.WORKER_JOINED:
                    one.incarnation = int(report.facts["incarnation"] or 0)
                    one.joined.set()
                if report.held:
                    await self._held(one.number, report)
                    writer.write(_encode(Go(armed=self._armed_for(one.number))) + b"\n")
        except ConnectionError:
            pass  # it was killed while we wrote to it
        finally:
            writer.close()


def ending(process: Process) -> str:
    """How a process ended, in words."""
    code = process.returncode
    if code is None:
        return "still running"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def tail(log: Path, lines: int = 20) -> str:
    """The end of a log file."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(nothing)"
    return "(no log)"
