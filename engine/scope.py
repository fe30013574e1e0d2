"""Where a durable call stands: which workflow, which task of it, which place in that task.

A step's id is the path of its task (child tasks numbered as they are created) and its ordinal in that task: "3" is the
third durable call of the main task, "2/1" the first of the second child task. The numbers come from a task factory, since
only there the order of creation is known; the order in which children reach their first call may differ between runs.
"""

import asyncio
import contextlib
import contextvars
import weakref
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .errors import NotInWorkflow

if TYPE_CHECKING:
    from .execution import Execution


class Scope:
    """One task of a workflow."""

    __slots__ = ("_children", "_ordinal", "execution", "path")

    def __init__(self, execution: "Execution", path: str = "") -> None:
        self.execution = execution
        self.path = path
        self._ordinal = 0
        self._children = 0

    def next_step(self) -> str:
        """The id of the next durable call of this task."""
        self._ordinal += 1
        return f"{self.path}{self._ordinal}"

    def child(self) -> "Scope":
        """The scope of a task that this one creates now."""
        self._children += 1
        return Scope(self.execution, f"{self.path}{self._children}/")


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step's body may know about itself; `current()` returns it."""

    workflow_id: str
    step_id: str
    name: str
    attempt: int
    """Attempts of this execution, from 1; a new owner counts anew."""
    epoch: int
    idempotency_key: str
    """The same for every attempt of this step, whoever makes it."""
    worker: str = ""


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("duress_scope", default=None)
_body: contextvars.ContextVar[StepContext | None] = contextvars.ContextVar("duress_body", default=None)


def current_scope() -> Scope | None:
    """The scope of the running task; None outside workflows and inside a step's body."""
    return _scope.get()


def current_body() -> StepContext | None:
    """The context of the step whose body is running, if one is."""
    return _body.get()


def enter(scope: Scope) -> None:
    """Make the running task the main task of a workflow."""
    _scope.set(scope)


def current() -> StepContext:
    """The context of the step whose body is running; NotInWorkflow anywhere else."""
    context = _body.get()
    if context is None:
        raise NotInWorkflow("current() was called outside a step's body")
    return context


class outside:
    """What the engine does for a durable call, and the step's body: tasks that are created here are not the workflow's."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = _scope.set(None)

    def __exit__(self, *_: object) -> None:
        _scope.reset(self._token)


class body:
    """Marks a step's body: `current()` answers."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = _body.set(self._context)

    def __exit__(self, *_: object) -> None:
        _body.reset(self._token)


TaskFactory = Callable[..., asyncio.Future[Any]]


class _Numbering:
    """The task factory of a loop while workers run on it: tasks that a workflow creates get a scope of their own."""

    def __init__(self, previous: TaskFactory | None) -> None:
        self.previous = previous
        self.workers = 0
        self.factory: TaskFactory = self._create

    def _create(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Future[Any]:
        given: contextvars.Context | None = options.get("context")
        scope = _scope.get() if given is None else given.get(_scope)
        child: Scope | None = None
        if scope is not None:
            child = scope.child()
            context = contextvars.copy_context() if given is None else given.copy()
            context.run(_scope.set, child)
            options["context"] = context
        if self.previous is None:
            task: asyncio.Future[Any] = asyncio.Task(coroutine, loop=loop, **options)
        else:
            task = self.previous(loop, coroutine, **options)
        if child is not None:
            child.execution.adopt(task)
        return task


def waits_for_tasks(task: asyncio.Future[Any] | None) -> bool:
    """Whether all that this task does is to wait for others: a plain call of the user's between steps must not be cut short.

    False where that cannot be known.
    """
    waiter = getattr(task, "_fut_waiter", None)
    if isinstance(waiter, (asyncio.Task, asyncio.tasks._GatheringFuture)):  # type: ignore[attr-defined]
        return True
    innermost = task.get_coro() if isinstance(task, asyncio.Task) else None
    while isinstance(innermost, CoroutineType) and isinstance(innermost.cr_await, CoroutineType):
        innermost = innermost.cr_await
    if waiter is None or not isinstance(innermost, CoroutineType):
        return False
    return (innermost.cr_code.co_filename, innermost.cr_code.co_name) in _WAITS


_WAITS = {
    (asyncio.tasks.__file__, "_wait"),
    (asyncio.taskgroups.__file__, "__aexit__"),
    (asyncio.taskgroups.__file__, "_aexit"),
}

_numbered: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Numbering]" = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def numbered_tasks(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Number the tasks of workflows on this loop, on top of its own task factory.

    Once, however many workers share the loop: numbered twice, a child would be "1/1" here and "1" where one worker is alone,
    and its steps would not be found again there.
    """
    numbering = _numbered.get(loop)
    if numbering is None:
        numbering = _numbered[loop] = _Numbering(loop.get_task_factory())
        loop.set_task_factory(numbering.factory)
    numbering.workers += 1
    try:
        yield
    finally:
        numbering.workers -= 1
        # Where somebody has put another factory on top of it, it stays: without workers it does nothing.
        if not numbering.workers and loop.get_task_factory() is numbering.factory:
            loop.set_task_factory(numbering.previous)
            del _numbered[loop]
