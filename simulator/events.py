"""Events of the world outside of all processes: what happens at a server, or on the way to it."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from .clock import SECOND
from .handles import SimHandle, SimTimer
from .ready import Ready, Timers

if TYPE_CHECKING:
    from .loop import SimLoop


class Source(Protocol):
    """Something besides timers that happens in virtual time, such as a server's own timeouts."""

    def next_at(self) -> int | None:
        """The earliest virtual nanosecond at which it has something to do, or None."""
        ...

    def advance(self, now: int) -> None:
        """Time is `now`: do what is due, if anything."""
        ...

    def describe(self) -> list[str]:
        """Lines for the report of a run that is stuck: who waits for whom."""
        ...


class Events:
    """A chain: its callbacks keep their order, and it is a candidate of its own for the scheduler.

    They belong to no task and no process, and so run though a process is paused, blocked or dead. One for each thing that
    acts by itself: a session of the server, a direction of a link. One that raises ends the run.
    """

    def __init__(self, loop: "SimLoop", ready: Ready, timers: Timers, label: str) -> None:
        self._loop = loop
        self._ready = ready
        self._timers = timers
        self._chain = ready.new_chain(label, None)

    @property
    def id(self) -> int:
        return self._chain.id

    @property
    def label(self) -> str:
        return self._chain.label

    def call_soon(self, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        """Call it when the chain's turn comes, with no context but an empty one."""
        handle = SimHandle(self._happen, (callback, args), self._loop, Context())
        self._ready.put(self._chain, handle)
        return handle

    def call_at(self, when: int, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call it then, in nanoseconds since the run began; at once if that has passed."""
        timer = SimTimer(when / SECOND, when, self._happen, (callback, args), self._loop, Context())
        timer.destined = self._chain
        self._timers.add(timer, when)
        return timer

    def _happen(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            callback(*args)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the run cannot go on
            self._loop.fail(error)
