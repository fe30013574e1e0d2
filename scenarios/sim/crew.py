"""The simulated workers of one run: started, heard, held at points, started again."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from duress.engine import observer
from duress.engine.observer import Facts
from duress.scenarios import history
from duress.scenarios.points import Reported
from duress.scenarios.recorder import Recorder
from duress.scenarios.serving import serve
from duress.scenarios.settings import Settings
from duress.simulator import Run, SimProcess

JOINING_BOUND = 30.0  # virtual seconds
GRACE = 5.0  # virtual seconds, at the end of a run


class WorkerStartFailed(Exception):
    """A worker ended, or did not join in time."""


class Worker:
    """A worker over all its incarnations. It stands still for as long as anybody holds it."""

    def __init__(self, number: int, process: SimProcess) -> None:
        self.number = number
        self.process = process
        self.joined = asyncio.Event()
        self.expected = False  # a fault, or the end of the run, ends this incarnation
        self._holders: set[str] = set()

    @property
    def pid(self) -> int:
        """Of the incarnation."""
        return 1000 * (self.number + 1) + self.process.incarnation

    def hold(self, who: str) -> None:
        self._holders.add(who)
        self.process.pause()

    def let_go(self, who: str) -> None:
        """Harmless if it has ended meanwhile."""
        self._holders.discard(who)
        if not self._holders and self.process.alive:
            self.process.resume()

    def begin_again(self) -> None:
        self._holders.clear()
        self.joined.clear()
        self.expected = False


class SimCrew:
    """All workers of a run, by number. `held` is awaited while a worker stands still at a point where `pulls` says so; only
    there, so that a run is the one without faults until the first strikes.
    """

    def __init__(
        self,
        run: Run,
        settings: Settings,
        pulls: Callable[[int, str, object], bool],
        held: Callable[[int, Reported], Awaitable[None]],
        recorder: Recorder,
    ) -> None:
        self._run = run
        self._settings = settings
        self._pulls = pulls
        self._held = held
        self._recorder = recorder
        self._workers: list[Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._reports: asyncio.Queue[tuple[Worker, Reported, asyncio.Event]] = asyncio.Queue()
        self.unplanned: list[str] = []  # workers that ended though nobody ended them
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def worker(self, number: int) -> Worker:
        return self._workers[number]

    def alive(self) -> list[int]:
        """The numbers of the workers that have joined and not ended."""
        return [one.number for one in self._workers if one.joined.is_set() and one.process.alive]

    def expect_end(self, worker: int) -> None:
        """The worker's present process is about to be ended on purpose."""
        self._workers[worker].expected = True

    def expect_no_more(self, worker: int) -> None:
        """It has been ended, or will not be."""

    async def start(self, count: int) -> None:
        """Start `count` workers and wait until all have joined. Raises WorkerStartFailed."""
        self.follow(self._attend())
        for number in range(count):
            name = f"worker-{number}"
            process = self._run.process(name, partial(self._serve, number), may_fail=True)
            self._workers.append(Worker(number, process))
            self._spawned(self._workers[number])
        for one in self._workers:
            try:
                async with asyncio.timeout(JOINING_BOUND):
                    await one.joined.wait()
            except TimeoutError:
                raise WorkerStartFailed(f"{one.process} did not join within {JOINING_BOUND:g} s") from None

    async def respawn(self, worker: int) -> None:
        """Start a worker whose process has ended."""
        one = self._workers[worker]
        one.begin_again()
        one.process.restart()
        self._spawned(one)

    async def stop(self) -> None:
        """End all workers gracefully, then by force."""
        for one in self._workers:
            one.expected = True
            if one.process.alive:
                one.process.resume()
                one.process.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                for one in self._workers:
                    await one.process.ended()
        for one in self._workers:
            if one.process.alive:
                one.process.kill()
        for task in self._tasks:
            task.cancel()

    # Within the workers

    async def _serve(self, number: int) -> None:
        await serve(self._run.dsn, f"worker-{number}", self._settings, Agent(self, number))

    def heard(self, number: int, name: str, facts: Facts) -> Awaitable[None] | None:
        """A worker passes a point; what it gets to await there, if it must stop."""
        worker = self._workers[number]
        held = self._pulls(number, name, facts.get("name"))
        report = Reported(at=self._recorder.now(), name=name, facts=facts, held=held)
        self._recorder.add(f"worker {number}", name, facts)
        if name == observer.WORKER_JOINED:
            worker.joined.set()
        if not held:
            return None
        released = asyncio.Event()
        worker.hold("point")
        self._reports.put_nowait((worker, report, released))
        return _reached(released)

    def said(self, name: str, facts: Mapping[str, str | bool]) -> None:
        """Code says something of itself, in a worker or, as the client, in the harness."""
        process = self._run.loop.process
        number = next((one.number for one in self._workers if one.process is process), None)
        self._recorder.add("client" if number is None else f"worker {number}", name, facts)

    # Within the harness

    async def _attend(self) -> None:
        while True:
            worker, report, released = await self._reports.get()
            self.follow(self._keep(worker, report, released, worker.process.incarnation))

    async def _keep(self, worker: Worker, report: Reported, released: asyncio.Event, incarnation: int) -> None:
        await self._held(worker.number, report)
        if worker.process.incarnation == incarnation and worker.process.alive:
            released.set()
            worker.let_go("point")

    def _spawned(self, one: Worker) -> None:
        self._recorder.add("harness", history.SPAWNED, {"worker": one.number, "pid": one.pid})
        self.follow(self._bury(one, one.pid))

    async def _bury(self, one: Worker, pid: int) -> None:
        end = await one.process.ended()
        facts = {
            "worker": one.number,
            "pid": pid,
            "signal": 9 if end.how in ("killed", "cut off") else None,
            "code": {"returned": 0, "raised": 1}.get(end.how),
            "planned": one.expected,
        }
        self._recorder.add("harness", history.EXITED, facts)
        if not one.expected:
            self.unplanned.append(f"worker {one.number} ended by itself ({end.how}: {end.error!r})")

    def follow(self, coroutine: "asyncio._CoroutineLike[None]") -> None:
        """Run it beside the crew, until `stop`; what it raises ends the run."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._followed)

    def _followed(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.broken.done():
            self.broken.set_exception(error)


class Agent:
    """The engine observer within a simulated worker."""

    def __init__(self, crew: SimCrew, number: int) -> None:
        self._crew = crew
        self._number = number

    def point(self, name: str, facts: Facts) -> Awaitable[None] | None:
        return self._crew.heard(self._number, name, facts)


async def _reached(released: asyncio.Event) -> None:
    await released.wait()
