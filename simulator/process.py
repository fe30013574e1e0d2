"""Simulated processes: several of them run in one loop, each with its own tasks, clock, randomness and connections."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from random import Random
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

from .clock import LocalClock
from .errors import SimulationError
from .handles import CURRENT
from .life import End, How, Life, Resource

if TYPE_CHECKING:
    from .loop import SimLoop

Main = Callable[[], Coroutine[Any, Any, Any]]


class SimProcess:
    """A named process in which `main` runs, as `asyncio.run` would run it.

    `offset` (seconds) and `drift` (a fraction) are the errors of its clock. `stopping` is what `stop` calls, inside the
    process (a coroutine function is awaited there); without it `stop` does what SIGTERM would: it calls the program's
    handler, or else cancels the main task.
    """

    def __init__(
        self,
        loop: "SimLoop",
        name: str,
        main: Main,
        *,
        offset: float = 0.0,
        drift: float = 0.0,
        stopping: Callable[[], object] | None = None,
    ) -> None:
        if not name:
            raise ValueError("a simulated process needs a name; the empty one stands for the harness")
        self._loop = loop
        self.name = name
        self.number = len(loop.processes) + 1
        self._main = main
        self._stopping = stopping
        self._context = copy_context()
        self._waiters: list[asyncio.Future[End]] = []
        self.clock = LocalClock(loop.clock.now, offset, drift)
        self.end: End | None = None
        self._again = False
        self._life = self._begin(1)

    def __repr__(self) -> str:
        state = self.end.how if self.end else "paused" if self._life.paused else "running"
        return f"<SimProcess {self.name} incarnation {self.incarnation} {state}>"

    @property
    def incarnation(self) -> int:
        """1 for the first start, one more for each restart."""
        return self._life.number

    @property
    def alive(self) -> bool:
        return self.end is None

    @property
    def dying(self) -> bool:
        """Killed in a step of its own, which is not over yet: whatever it begins now must not happen."""
        return self._loop.lives.is_doomed(self._life)

    @property
    def paused(self) -> bool:
        return self._life.paused

    @property
    def random(self) -> Random:
        """The randomness of this incarnation: what `random`, `uuid`, `os.urandom` give it comes from here."""
        return self._life.random

    def _begin(self, number: int) -> Life:
        context = self._context.copy()
        random = Random(f"{self._loop.choices.seed}/{self.name}/{number}")
        life = Life(self, number, context, random, next(self._loop.pids))
        life.ending = self._ended
        context.run(CURRENT.set, life)
        self.end = None
        self._life = life
        self._loop.note(self.name, "process", f"incarnation {number} starts")
        task = context.run(self._loop.create_task, self._program(life), context=context)
        life.main = task
        return life

    async def _program(self, life: Life) -> object:
        """main(), and then what `asyncio.run` and the interpreter do after it: cancel the tasks that are left, close async
        generators, call what `atexit` was given.
        """
        try:
            return await self._main()
        except SystemExit as error:
            life.exit = error
            return None
        finally:
            left = [task for task in self._loop.tasks_of(life) if task is not life.main]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            for task in left:
                if not task.cancelled() and (raised := task.exception()) is not None:
                    message = f"process {self.name!r} ended, and a task that it had left over raised"
                    self._loop.call_exception_handler({"message": message, "exception": raised, "task": task})
            await self._loop.shutdown_asyncgens()
            for function in reversed(life.at_exit):
                function()

    def _ended(self, end: End) -> None:
        self.end = end
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(end)
        self._waiters.clear()
        if self._again:
            self._again = False
            self._begin(self.incarnation + 1)

    async def ended(self) -> End:
        """Wait until this incarnation has ended; for code outside the process. How it ended is the result."""
        if self.end is not None:
            return self.end
        waiter: asyncio.Future[End] = self._loop.create_future()
        self._waiters.append(waiter)
        return await waiter

    def kill(self) -> None:
        """SIGKILL: nothing of it runs again, and the kernel closes its sockets.

        A process that kills itself finishes the step it is in first, up to the next await that really waits: code called
        from inside it, such as an observer, returns `never()` to it to let nothing happen in between.
        """
        self._finish("killed")

    def cut_off(self) -> None:
        """Its machine loses power, or its cable: nothing of it runs again, and its sockets stay open on the other side."""
        self._finish("cut off")

    def _finish(self, how: How) -> None:
        self._living("kill")
        self._loop.lives.finish(self._life, End(how))

    async def never(self) -> None:
        """Does not return."""
        await self._loop.create_future()

    def pause(self) -> None:
        """SIGSTOP: nothing of it runs until `resume`. Timers that come due meanwhile fire then, messages are kept.

        A process that pauses itself finishes the step it is in.
        """
        self._living("pause").paused = True
        self._loop.note(self.name, "process", "paused")
        self._loop.lives.hold(self._life)

    def resume(self) -> None:
        """SIGCONT. Does nothing to a process that is not paused."""
        life = self._living("resume")
        if life.paused:
            life.paused = False
            self._loop.note(self.name, "process", "resumed")
            self._loop.lives.release(life)

    def stop(self) -> None:
        """Ask it to end. It goes on for as long as it wants; `await ended()` says when it did."""
        life = self._living("stop")
        self._loop.note(self.name, "process", "asked to stop")
        handler = (self._stopping, ()) if self._stopping is not None else life.signals.get(SIGTERM)
        assert life.main is not None
        life.context.run(self._loop.call_soon, self._ask, *(handler or (life.main.cancel, ())))

    def _ask(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        answer = callback(*args)
        if asyncio.iscoroutine(answer):
            self._loop.create_task(answer)

    def restart(self) -> None:
        """Kill it if it is alive, and run its main anew as the next incarnation."""
        if self.end is None:
            self._again = True
            self.kill()
        else:
            self._begin(self.incarnation + 1)

    def clock_jump(self, seconds: float) -> None:
        """Set its wall clock forward or back. Its timers and monotonic clock do not notice, as on a real machine."""
        self._loop.note(self.name, "process", f"wall clock moved by {seconds} s")
        self.clock.jump(seconds)

    def set_drift(self, drift: float) -> None:
        """Let its clock run fast (0.01: by 1 %) or slow from now on; timers that are already set follow."""
        self._loop.note(self.name, "process", f"clock drifts by {drift}")
        self.clock.set_drift(self._loop.clock.now, drift)
        self._loop.lives.retime(self._life)

    def attach(self, resource: Resource) -> None:
        """`resource` shares this incarnation's fate from now on."""
        self._living("attach to").resources.append(resource)

    def detach(self, resource: Resource) -> None:
        """It was closed in the ordinary way. Does nothing if it is not attached."""
        with suppress(ValueError):
            self._life.resources.remove(resource)

    def _living(self, what: str) -> Life:
        if self.end is not None:
            raise SimulationError(f"cannot {what} process {self.name!r}: it has ended ({self.end.how}); restart it")
        return self._life
