"""Callbacks that wait for their turn, and the chains that they form.

A chain is what a scheduler may not reorder within: the steps of one task, or the plain callbacks of one process. Which it
is can be seen from the callback: asyncio's tasks schedule objects whose `__self__` is the task (its C implementation on
3.11 to 3.13, and the Python one behind `PYTHONASYNCIODEBUG` builds and subclasses).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context, ContextVar
from types import BuiltinFunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from .life import Life

CURRENT: Final[ContextVar["Life | None"]] = ContextVar("duress_simulated_process", default=None)
AnyTask = asyncio.Task[Any]
Callback = Callable[..., object]


class Withdrawn(Protocol):
    """Who is told that a callback that was ready has been cancelled: the loop."""

    def withdraw(self, handle: "SimHandle | SimTimer") -> None: ...


class Chain:
    """Ready callbacks that keep their order; one of the scheduler's candidates."""

    __slots__ = ("id", "label", "order", "owner", "process", "queue", "task")

    def __init__(self, number: int, label: str, owner: "Life | None", task: AnyTask | None) -> None:
        self.id = number
        self.label = label
        self.owner = owner
        self.process = "" if owner is None else owner.name
        self.task = task
        self.queue: deque[SimHandle | SimTimer] = deque()
        self.order = 0  # the number of the first in the queue


class SimHandle(asyncio.Handle):
    """asyncio's handle, which knows its chain and its place while it is ready."""

    __slots__ = ("_sim", "chain", "number")

    def __init__(self, callback: Callback, args: Sequence[Any], loop: Any, context: Context) -> None:
        super().__init__(callback, args, loop, context)
        self._sim: Withdrawn = loop
        self.chain: Chain | None = None
        self.number = 0

    def cancel(self) -> None:
        if not self._cancelled:
            super().cancel()
            if self.chain is not None:
                self._sim.withdraw(self)


class SimTimer(asyncio.TimerHandle):
    """asyncio's timer handle. `local` is when it is due on the clock of the process that set it (`life`)."""

    __slots__ = ("_sim", "chain", "destined", "life", "local", "number")

    def __init__(
        self, when: float, local: int, callback: Callback, args: Sequence[Any], loop: Any, context: Context
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self._sim: Withdrawn = loop
        self.chain: Chain | None = None
        self.number = 0
        self.local = local
        self.life = context.get(CURRENT)
        self.destined: Chain | None = None  # if not for the plain callbacks of its process

    def cancel(self) -> None:
        if not self._cancelled:
            super().cancel()
            if self.chain is not None:
                self._sim.withdraw(self)


class Numbering(Protocol):
    """A loop that numbers its tasks and futures in the order in which they are made."""

    numbers: Iterator[int]
    task_names: Iterator[int]


class _StandIn(type):
    """While a run lasts `asyncio.Task` is SimTask, and every task must be an instance of it then; so for futures."""

    def __instancecheck__(cls, instance: object) -> bool:
        return (
            isinstance(instance, cls.__bases__) if cls in (SimTask, SimFuture) else super().__instancecheck__(instance)
        )

    def __subclasscheck__(cls, subclass: type) -> bool:
        return (
            issubclass(subclass, cls.__bases__) if cls in (SimTask, SimFuture) else super().__subclasscheck__(subclass)
        )


class SimTask(asyncio.Task[Any], metaclass=_StandIn):
    """asyncio's task with its number for a hash: asyncio keeps tasks in sets (`TaskGroup`, `wait`), and would otherwise
    cancel or call them in the order of their addresses, which no two runs share. Unnamed ones are numbered by the loop.
    """

    __slots__ = ("chain", "number")

    def __init__(self, coro: Any, *, loop: Any = None, name: Any = None, **options: Any) -> None:
        loop = loop or asyncio.get_running_loop()
        self.number: int = next(loop.numbers)
        self.chain: Chain | None = None
        super().__init__(coro, loop=loop, name=name or f"Task-{next(loop.task_names)}", **options)

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[Any], metaclass=_StandIn):
    """asyncio's future with its number for a hash, for the same reason."""

    __slots__ = ("number",)

    def __init__(self, *, loop: Any = None) -> None:
        loop = loop or asyncio.get_running_loop()
        self.number: int = next(loop.numbers)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


def _type_of_step() -> type:
    """The type of what a task schedules for its next step; asyncio does not name it."""
    seen: list[type] = []

    class Loop(asyncio.BaseEventLoop):
        def call_soon(  # type: ignore[override]
            self, callback: Callback, *args: Any, context: Context | None = None
        ) -> asyncio.Handle:
            seen.append(type(callback))
            return asyncio.Handle(callback, args, self)

    async def nothing() -> None:
        pass

    loop, coroutine = Loop(), nothing()
    task = asyncio.Task(coroutine, loop=loop)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine.close()
    loop.close()
    return seen[0]


_STEP: Final = _type_of_step()
_IN_PYTHON: Final = ("__step", "__wakeup")


def task_of(callback: Any) -> AnyTask | None:
    """The task whose next step this callback is, or None for a plain callback."""
    kind = type(callback)
    if (
        kind is _STEP
        or (kind is BuiltinFunctionType and callback.__name__ == "task_wakeup")
        or (kind is MethodType and callback.__name__ in _IN_PYTHON and isinstance(callback.__self__, asyncio.Future))
    ):
        task: AnyTask = callback.__self__
        return task
    return None
