"""Durable sleeps: their end is fixed by the database's clock when they begin, and confirmed by it before they end.

A long sleep suspends the workflow: its code is unwound and its row handed back until the time has come, so that it holds no
memory and no connection. A short one, or one beside other tasks that still do something, is waited for in memory.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from . import observer
from .assertions import reachable
from .errors import Unwind
from .scope import Scope, outside, waits_for_tasks

if TYPE_CHECKING:
    from .execution import Execution

NAME = "sleep"
_LOOK_AGAIN = 0.1  # seconds, at least


class Sleeping:
    """The sleeps of one execution."""

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution
        self._began = asyncio.get_running_loop().time()
        # The tasks that sleep in memory: end by the database's clock, and roughly by the loop's.
        self._due: dict[asyncio.Task[Any] | None, tuple[float, float]] = {}
        self._looking = False
        self.wake_at: float | None = None
        """When the workflow, unwound as suspended, is to be claimed again; None if its row was handed back already."""

    @property
    def dozing(self) -> bool:
        """Whether some task sleeps in memory."""
        return bool(self._due)

    async def sleep(self, scope: Scope, seconds: float) -> None:
        """Return when the database's clock has passed the recorded end; raises Unwind if the workflow suspends instead."""
        if self._execution.draining:
            await self._execution.park()
        step = self._execution.next_step(scope)
        with outside():
            await self._sleep(step, seconds)

    async def _sleep(self, step: str, seconds: float) -> None:
        execution = self._execution
        options = execution.runtime.options
        recorded = await execution.replay(step, NAME, NAME)
        if recorded is not None:
            due_at = float(recorded.value)
            now_at = execution.claimed.claimed_at + asyncio.get_running_loop().time() - self._began
            if due_at <= execution.claimed.claimed_at:
                reachable("a sleep had ended when its workflow was claimed")
                await execution.point(
                    observer.FIRED, step=step, name=NAME, due_at=due_at, at=execution.claimed.claimed_at
                )
                return
        else:
            suspend = not execution.tasks and seconds >= options.suspend_after
            await execution.point(observer.CHECKPOINTING, step=step, name=NAME)
            before = execution.frontier()
            answer, token = await execution.runtime.store.sleep(execution.fence(), step, NAME, seconds, suspend)
            await execution.settle(str(answer.answer), step, NAME, before, token)
            due_at, now_at = answer.due_at, answer.now_at
            if suspend:
                await execution.point(observer.SUSPENDED, due_at=due_at)
                execution.unwind("suspended")
                raise Unwind
        if not execution.tasks and due_at - now_at >= options.suspend_after:
            await self._suspend(due_at)
        await self._doze(step, due_at, now_at)

    async def _doze(self, step: str, due_at: float, now_at: float) -> None:
        """Wait in memory. This process's clock only says when it is worth asking the database's."""
        execution = self._execution
        loop = asyncio.get_running_loop()
        me = asyncio.current_task()
        try:
            while now_at < due_at:
                self._due[me] = due_at, loop.time() + due_at - now_at
                self._look_later()
                await asyncio.sleep(due_at - now_at)
                execution.check()
                now_at = await execution.runtime.store.now()
        finally:
            self._due.pop(me, None)
        execution.check()
        await execution.point(observer.FIRED, step=step, name=NAME, due_at=due_at, at=now_at)

    def _look_later(self) -> None:
        """Look after a while whether all that the workflow does is to sleep for long."""
        if not self._looking and self._execution.tasks:
            self._looking = True
            linger = max(_LOOK_AGAIN, self._execution.runtime.options.suspend_after)
            asyncio.get_running_loop().call_later(linger, self._look)

    def _look(self) -> None:
        self._looking = False
        execution = self._execution
        if execution.unwinding is not None or not self._due:
            return
        left = min(due for _, due in self._due.values()) - asyncio.get_running_loop().time()
        busy = execution.active or any(
            task not in self._due and not waits_for_tasks(task) for task in (execution.root, *execution.tasks)
        )
        if busy or left < execution.runtime.options.suspend_after:
            self._look_later()
        else:
            self.wake_at = min(due for due, _ in self._due.values())
            execution.unwind("suspended")

    async def _suspend(self, due_at: float) -> None:
        self.wake_at = due_at
        await self._execution.point(observer.SUSPENDED, due_at=due_at)
        self._execution.unwind("suspended")
        raise Unwind
