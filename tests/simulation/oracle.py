"""asyncio's own event loop on virtual time, to compare with: BaseEventLoop untouched, its selector moves the clock.

And random programs for it: each says which of its parts did what, in which order and when.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from random import Random
from typing import Any

from duress.simulator.handles import SimFuture, SimTask

TICK = 1e-14  # no two calls see one time, as on a real machine; asyncio takes what is within 1e-9 for one moment
Trace = list[tuple[Any, ...]]
Program = Callable[[Trace], Awaitable[object]]


class VirtualSelector:
    """Nothing ever comes in: waiting is time passing."""

    def __init__(self, loop: "OracleLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        assert timeout is not None, "asyncio would wait for ever"
        self._loop.base = round(self._loop.base + timeout, 9)
        return []


class OracleLoop(asyncio.BaseEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self.base = 0.0
        self._calls = 0
        self._selector = VirtualSelector(self)
        self._clock_resolution = 1e-9
        self.numbers = count(1)
        self.task_names = count(1)

    def create_task(self, coro: Any, **options: Any) -> Any:
        """Tasks whose order in a set is the same here and there."""
        return SimTask(coro, loop=self, **options)

    def create_future(self) -> asyncio.Future[Any]:
        return SimFuture(loop=self)

    def time(self) -> float:
        self._calls += 1
        return self.base + self._calls * TICK

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class Parts:
    """A random program: tasks that do everything asyncio offers to each other. The same seed is the same program."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self.random = Random(seed)
        self.trace = trace
        self.tasks: list[asyncio.Task[Any]] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.lock = asyncio.Lock()
        self.event = asyncio.Event()
        self.condition = asyncio.Condition()
        self.semaphore = asyncio.Semaphore(2)
        self.queue: asyncio.Queue[int] = asyncio.Queue(2)
        self.names = 0
        self.spawned = 0

    def say(self, *what: Any) -> None:
        self.trace.append((round(asyncio.get_running_loop().time(), 6), *what))

    def delay(self) -> float:
        return self.random.choice([0, 0, 0.001, 0.002, 0.003, 0.01, -1])

    async def task(self, depth: int) -> int:
        self.names += 1
        name = self.names
        self.say(name, "begins")
        try:
            for _ in range(self.random.randint(1, 5)):
                what = self.random.choice(ACTIONS)
                self.say(name, what.__name__)
                try:
                    await what(self, name, depth)
                except (TimeoutError, RuntimeError, ValueError, ExceptionGroup) as error:
                    self.say(name, type(error).__name__)
            return name
        except asyncio.CancelledError:
            self.say(name, "cancelled")
            raise
        finally:
            self.say(name, "ends")

    def spawn(self, depth: int) -> asyncio.Task[int]:
        self.spawned += 1
        task = asyncio.get_running_loop().create_task(self.task(depth + 1))
        self.tasks.append(task)
        return task

    def small(self, depth: int) -> bool:
        return depth < 3 and self.spawned < 40

    async def yielding(self, name: int, depth: int) -> None:
        await asyncio.sleep(0)

    async def sleeping(self, name: int, depth: int) -> None:
        await asyncio.sleep(self.delay())

    async def spawning(self, name: int, depth: int) -> None:
        if self.small(depth):
            self.spawn(depth)

    async def gathering(self, name: int, depth: int) -> None:
        if self.small(depth):
            children = [self.spawn(depth) for _ in range(self.random.randint(1, 3))]
            self.say(name, await asyncio.gather(*children, return_exceptions=True) and "gathered")

    async def waiting(self, name: int, depth: int) -> None:
        if self.small(depth):
            children = [self.spawn(depth) for _ in range(2)]
            when = self.random.choice([asyncio.FIRST_COMPLETED, asyncio.ALL_COMPLETED])
            done, pending = await asyncio.wait(children, timeout=self.delay(), return_when=when)
            self.say(name, len(done), len(pending))

    async def timing_out(self, name: int, depth: int) -> None:
        async with asyncio.timeout(self.delay()):
            await asyncio.sleep(self.delay())
            await self.task(depth + 1) if self.small(depth) else None

    async def waiting_for(self, name: int, depth: int) -> None:
        await asyncio.wait_for(asyncio.sleep(self.delay()), self.delay())

    async def grouping(self, name: int, depth: int) -> None:
        if self.small(depth):
            async with asyncio.TaskGroup() as group:
                self.spawned += 2
                group.create_task(self.task(depth + 1))
                group.create_task(self.task(depth + 1))
                if self.random.random() < 0.3:
                    raise ValueError(name)

    async def locking(self, name: int, depth: int) -> None:
        async with self.lock:
            self.say(name, "locked")
            await asyncio.sleep(self.delay())

    async def counting(self, name: int, depth: int) -> None:
        async with self.semaphore:
            await asyncio.sleep(self.delay())

    async def setting(self, name: int, depth: int) -> None:
        self.event.set() if self.random.random() < 0.6 else self.event.clear()

    async def awaiting(self, name: int, depth: int) -> None:
        async with asyncio.timeout(0.01):
            await self.event.wait()

    async def notifying(self, name: int, depth: int) -> None:
        async with self.condition:
            self.condition.notify(self.random.randint(1, 2))

    async def hearing(self, name: int, depth: int) -> None:
        async with asyncio.timeout(0.01), self.condition:
            await self.condition.wait()

    async def putting(self, name: int, depth: int) -> None:
        async with asyncio.timeout(0.005):
            await self.queue.put(name)

    async def getting(self, name: int, depth: int) -> None:
        async with asyncio.timeout(0.005):
            self.say(name, "got", await self.queue.get())

    async def cancelling(self, name: int, depth: int) -> None:
        if self.tasks:
            self.random.choice(self.tasks).cancel()

    async def calling(self, name: int, depth: int) -> None:
        loop = asyncio.get_running_loop()
        handles = [
            loop.call_soon(self.say, name, "soon"),
            loop.call_later(self.delay(), self.say, name, "later"),
            loop.call_soon(self.say, name, "sooner"),
        ]
        if self.random.random() < 0.5:
            await asyncio.sleep(self.delay())
        if self.random.random() < 0.5:
            self.random.choice(handles).cancel()

    async def resolving(self, name: int, depth: int) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        future.add_done_callback(lambda _: self.say(name, "resolved"))
        loop.call_later(self.delay(), lambda: future.done() or future.set_result(name))
        async with asyncio.timeout(self.delay()):
            self.say(name, await asyncio.shield(future))

    async def generating(self, name: int, depth: int) -> None:
        async def generator() -> Any:
            try:
                for n in range(3):
                    await asyncio.sleep(self.delay())
                    yield n
            finally:
                self.say(name, "generator ends")

        async for n in generator():
            self.say(name, "item", n)
            if self.random.random() < 0.3:
                break

    async def eager(self, name: int, depth: int) -> None:
        if self.small(depth) and hasattr(asyncio, "eager_task_factory"):
            self.spawned += 1
            loop = asyncio.get_running_loop()
            self.tasks.append(asyncio.eager_task_factory(loop, self.task(depth + 1)))

    async def main(self) -> None:
        for _ in range(4):
            self.spawn(0)
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(1)
        # Nothing may be left over: what is collected as garbage in a later run, runs its `finally` there.
        while left := sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=hash):
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


ACTIONS = [
    getattr(Parts, name)
    for name in vars(Parts)
    if name not in {"say", "delay", "task", "spawn", "small", "main"} and not name.startswith("_")
]


def run(loop: asyncio.AbstractEventLoop, seed: int) -> Trace:
    """What the random program of this seed did on this loop."""
    trace: Trace = []

    async def program() -> None:
        await Parts(seed, trace).main()

    try:
        loop.run_until_complete(program())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    return trace
