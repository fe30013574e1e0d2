"""Plain steps: attempts of a body, and the checkpoint of how it went."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from . import failures, observer
from .assertions import reachable
from .definitions import StepDefinition
from .errors import StepTimeout
from .scope import StepContext, body
from .store import Checkpoint

if TYPE_CHECKING:
    from .execution import Execution

NOTICEABLE = 0.05  # seconds


async def run_step(
    execution: "Execution", step: StepDefinition[..., Any], id_: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Checkpoint:
    """Run the body until it succeeds or its attempts are used up, and record that."""
    attempt = 1
    while True:
        failed, value = await _attempt(execution, step, id_, attempt, args, kwargs)
        if isinstance(value, str):
            break
        if attempt >= step.retry.attempts or not isinstance(value, step.retry.on):
            value = failures.record(value, execution.runtime.values)
            break
        await execution.rest(step.retry.delay(attempt, execution.runtime.entropy))
        attempt += 1
    checkpoint = Checkpoint(id_, step.name, step.kind, failed, value)
    await execution.write(checkpoint)
    return checkpoint


async def _attempt(
    execution: "Execution",
    step: StepDefinition[..., Any],
    id_: str,
    attempt: int,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[bool, str | BaseException]:
    """Whether the body failed; its result as JSON text, or the exception."""
    values = execution.runtime.values
    context = await begin_body(execution, step, id_, attempt)
    try:
        with running(execution, context), body(context):
            result = await _invoke(execution, step, args, kwargs)
        execution.check()  # a body that was cancelled, and took that for an answer, has no outcome
        text = values.encode(result, f"result of step {step.name!r}")
        values.decode(text, step.signature.returns, f"result of step {step.name!r}")
    except BaseException as error:
        if not execution.is_outcome(error):
            raise
        await execution.point(observer.ENDED, step=id_, name=step.name, attempt=attempt, outcome="error")
        return True, error
    if execution.observed:
        await execution.point(observer.ENDED, step=id_, name=step.name, attempt=attempt, outcome="ok")
    return False, text


async def begin_body(execution: "Execution", step: StepDefinition[..., Any], id_: str, attempt: int) -> StepContext:
    """Wait until this worker may start a body, announce it, and say what the body may know."""
    lease = execution.runtime.lease
    if not lease.held():
        reachable("a body had to wait for the lease")
        await lease.wait()
    execution.check()
    claimed = execution.claimed
    key = f"{claimed.id}:{id_}"
    context = StepContext(claimed.id, id_, step.name, attempt, claimed.epoch, key, execution.runtime.worker)
    if execution.observed:
        await execution.point(observer.STARTED, step=id_, name=step.name, attempt=attempt, key=key)
    return context


class running:
    """Keeps the list of bodies that run, for naming the one that blocks the event loop."""

    __slots__ = ("_context", "_runtime")

    def __init__(self, execution: "Execution", context: StepContext) -> None:
        self._runtime = execution.runtime
        self._context = context

    def __enter__(self) -> None:
        began = asyncio.get_running_loop().time()
        self._runtime.bodies[self] = (self._context.workflow_id, self._context.name, began)

    def __exit__(self, *_: object) -> None:
        body = self._runtime.bodies.pop(self)
        if asyncio.get_running_loop().time() - body[2] > NOTICEABLE:
            self._runtime.ended.append(body)  # one that blocked has ended before anybody else can look


async def _invoke(
    execution: "Execution", step: StepDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if step.timeout is None:
        return await _call(execution, step, args, kwargs)
    async with time_limit(step):
        return await _call(execution, step, args, kwargs)


@contextlib.asynccontextmanager
async def time_limit(step: StepDefinition[..., Any]) -> AsyncIterator[None]:
    """Raises StepTimeout when the step's time is over; a TimeoutError of the body's own passes."""
    deadline = asyncio.timeout(step.timeout)
    try:
        async with deadline:
            yield
    except TimeoutError:
        if deadline.expired():
            raise StepTimeout(f"{step.kind} {step.name!r} took longer than its {step.timeout} s") from None
        raise


async def _call(
    execution: "Execution", step: StepDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if step.is_async:
        return await step.function(*args, **kwargs)
    run = contextvars.copy_context().run
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(execution.runtime.executor, lambda: run(_in_thread, step, args, kwargs))


def _in_thread(step: StepDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return step.function(*args, **kwargs)
    except StopIteration as error:  # no future can carry one: whoever waits would wait for ever (CPython before 3.12)
        raise RuntimeError(f"step {step.name!r} raised StopIteration") from error
