"""Functions that were meant for a thread run here, at one point in virtual time: one step, between others."""

import asyncio
from asyncio import events
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from .clock import SECOND
from .handles import CURRENT, Chain, SimHandle
from .ready import Ready

if TYPE_CHECKING:
    from .loop import SimLoop


def submit(loop: "SimLoop", ready: Ready, func: Callable[..., Any], args: tuple[Any, ...]) -> "asyncio.Future[Any]":
    """The future of a call that will be one step of its own, of no task and in no order with other callbacks."""
    life = CURRENT.get()
    future: asyncio.Future[Any] = loop.create_future()
    chain = ready.new_chain(f"thread {getattr(func, '__qualname__', type(func).__name__)}", life)
    if life is not None:
        life.threads.append(chain)
    ready.put(chain, SimHandle(_call, (loop, chain, future, func, args), loop, copy_context()))
    return future


def _call(
    loop: "SimLoop", chain: Chain, future: "asyncio.Future[Any]", func: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """Call and hand the outcome to `future`; if the function slept, only that much later, as a thread would have."""
    life = CURRENT.get()
    if life is not None:
        life.threads.remove(chain)
    if future.cancelled():
        return  # as a call that no thread has begun
    result: Any = None
    error: BaseException | None = None
    loop.readings.aside = 0
    events._set_running_loop(None)  # in a thread there is none
    try:
        result = func(*args)
    except StopIteration as stop:  # no future can hold one
        error = RuntimeError(f"{getattr(func, '__qualname__', func)!r} raised StopIteration")
        error.__cause__ = stop
    except BaseException as raised:  # noqa: BLE001  # whatever it is, it is for those who await the future
        error = raised
    finally:
        slept, loop.readings.aside = loop.readings.aside, None
        events._set_running_loop(loop)
    if slept:
        loop.call_later(slept / SECOND, _deliver, future, result, error)
    else:
        loop.call_soon(_deliver, future, result, error)


def _deliver(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
