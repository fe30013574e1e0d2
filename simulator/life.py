"""One life of a simulated process: from a start to its end, which may be that it was killed.

A SIGKILL runs no `finally`, no `except`, no `atexit`. Cancelling a task, closing a coroutine and dropping the last
reference to one all do. So what a killed process leaves is put into a graveyard that is never emptied and never torn
down, not even when the interpreter ends.
"""

import ctypes
import weakref
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from .handles import AnyTask, Chain

if TYPE_CHECKING:
    from .process import SimProcess

How = Literal["returned", "raised", "killed", "cut off"]


class Resource(Protocol):
    """Something of a process that the outside notices the loss of: a connection."""

    def process_died(self) -> None:
        """The kernel closes its descriptors: close the raw socket, say nothing on it."""
        ...

    def host_cut_off(self) -> None:
        """The machine is gone: nobody tells the other side, the socket stays as it is."""
        ...


@dataclass(frozen=True, slots=True)
class End:
    """How a life ended, and for "raised" with what."""

    how: How
    error: BaseException | None = None


class Life:
    """What belongs to one incarnation. `running` is false while its callbacks are withheld: paused, blocked, or dead."""

    def __init__(self, process: "SimProcess", number: int, context: Context, random: Random, pid: int) -> None:
        self.process = process
        self.name = process.name
        self.number = number
        self.clock = process.clock
        self.context = context
        self.random = random
        self.pid = pid
        self.running = True
        self.paused = False
        self.dead = False
        self.blocked_until = 0  # on the run's clock: a blocking call holds up this process and no other
        self.callbacks: Chain | None = None
        self.threads: list[Chain] = []
        self.main: AnyTask | None = None
        self.resources: list[Resource] = []
        self.asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self.at_exit: list[Callable[[], object]] = []
        self.exit: SystemExit | None = None
        self.signals: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        self.ending: Callable[[End], None] = _nobody

    def monotonic(self, now: int) -> int:
        """Its monotonic clock, in nanoseconds; a blocking call has moved it ahead of the others'."""
        return self.clock.monotonic(max(now, self.blocked_until))

    def wall(self, now: int) -> int:
        """Its wall clock, in nanoseconds since 1970."""
        return self.clock.wall(max(now, self.blocked_until))


def _nobody(end: End) -> None:
    pass


_GRAVEYARD: Final[list[object]] = []
# One reference too many: the interpreter's end would otherwise finalise the coroutines, and run their `finally`.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_GRAVEYARD))


def bury(*remains: object) -> None:
    """Keep what must never run again, nor be finalised, until the operating system's process ends."""
    _GRAVEYARD.extend(remains)
