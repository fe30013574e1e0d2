"""Virtual time and seeded randomness for everything that Python code asks: `time`, `datetime`, `random`, `uuid`, `os`.

Each simulated process has its own clock and its own stream of randomness; the harness has one too.
"""

import asyncio
import atexit
import datetime
import os
import random
import socket
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any, Final

from .clock import SECOND
from .handles import CURRENT, SimFuture, SimTask
from .inside import active
from .patches import attributes, type_attributes

if TYPE_CHECKING:
    from .loop import SimLoop

_WALL_CLOCKS: Final = {
    getattr(time, name) for name in ("CLOCK_REALTIME", "CLOCK_REALTIME_COARSE", "CLOCK_TAI") if hasattr(time, name)
}
_FIRST_PID: Final = 1_000
_NODE: Final = 0x02_00_00_00_00_01  # a locally administered network address


def _randomness(loop: "SimLoop") -> random.Random:
    life = CURRENT.get()
    return loop.random if life is None else life.random


# The first finalizer that is made in a Python process has all of them called at exit, and none after that. Were it made in
# a run, "exit" would be the end of a simulated process, and connections that a later run loses would not be seen to close.
weakref.finalize(_randomness, int).detach()


def _virtual(original: Callable[..., Any], inside: Callable[..., Any]) -> Callable[..., Any]:
    """`original`, and in a simulation `inside(loop, *args)`."""

    @wraps(original)
    def virtual(*args: Any, **kwargs: Any) -> Any:
        loop = active()
        return original(*args, **kwargs) if loop is None else inside(loop, *args, **kwargs)

    return virtual


# Time


def _sleep(loop: "SimLoop", seconds: float, /) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    loop.readings.block(round(seconds * SECOND))


def _clock_ns(loop: "SimLoop", clock: int, /) -> int:
    return loop.readings.wall() if clock in _WALL_CLOCKS else loop.readings.monotonic()


def _of_the_moment(original: Callable[..., Any], position: int = 0) -> Callable[..., Any]:
    """For functions of `time` that take the present moment if they are given none at `position`."""
    broken_down = original in (time.strftime, time.asctime)

    def inside(loop: "SimLoop", *args: Any) -> Any:
        if len(args) > position and args[position] is not None:
            return original(*args)
        seconds = loop.readings.wall() // SECOND
        return original(*args[:position], time.localtime(seconds) if broken_down else seconds)

    return _virtual(original, inside)


def _times() -> dict[Any, Any]:
    def seconds(read: Callable[["SimLoop"], int]) -> Callable[["SimLoop"], float]:
        return lambda loop: read(loop) / SECOND

    def wall(loop: "SimLoop") -> int:
        return loop.readings.wall()

    def local(loop: "SimLoop") -> int:
        return loop.readings.monotonic()

    table = {
        time.time: _virtual(time.time, seconds(wall)),
        time.time_ns: _virtual(time.time_ns, wall),
        time.sleep: _virtual(time.sleep, _sleep),
        time.clock_gettime: _virtual(time.clock_gettime, lambda loop, clock: _clock_ns(loop, clock) / SECOND),
        time.clock_gettime_ns: _virtual(time.clock_gettime_ns, _clock_ns),
        time.strftime: _of_the_moment(time.strftime, 1),
    }
    # Computing takes no time in a simulation; its cost, too, is read from the one clock.
    for name in ("monotonic", "perf_counter", "process_time", "thread_time"):
        plain, exact = getattr(time, name), getattr(time, f"{name}_ns")
        table |= {plain: _virtual(plain, seconds(local)), exact: _virtual(exact, local)}
    for function in (time.localtime, time.gmtime, time.ctime, time.asctime):
        table[function] = _of_the_moment(function)
    return table


def _datetime_methods() -> dict[str, Any]:
    """`date.today` and `datetime.today` ask `time.time` by themselves; these two ask the operating system."""
    now, utcnow = vars(datetime.datetime)["now"], vars(datetime.datetime)["utcnow"]

    def at(cls: type[datetime.datetime], loop: "SimLoop", zone: datetime.tzinfo | None) -> datetime.datetime:
        seconds, micros = divmod(loop.readings.wall() // 1_000, 1_000_000)
        return cls.fromtimestamp(seconds, zone).replace(microsecond=micros)

    def virtual_now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> Any:
        loop = active()
        return now.__get__(None, cls)(tz) if loop is None else at(cls, loop, tz)

    def virtual_utcnow(cls: type[datetime.datetime]) -> Any:
        loop = active()
        return utcnow.__get__(None, cls)() if loop is None else at(cls, loop, datetime.UTC).replace(tzinfo=None)

    return {"now": classmethod(virtual_now), "utcnow": classmethod(virtual_utcnow)}


# Randomness and names


def _random_functions() -> dict[Any, Any]:
    """The functions of the module are methods of one hidden generator; here each goes to the process's own."""

    def of(name: str) -> Callable[..., Any]:
        return lambda loop, *args, **kwargs: getattr(_randomness(loop), name)(*args, **kwargs)

    functions = {name: getattr(random, name) for name in random.__all__ if name not in {"Random", "SystemRandom"}}
    return {function: _virtual(function, of(name)) for name, function in functions.items()}


def _seed() -> Callable[..., Any]:
    original = random.Random.seed

    @wraps(original)
    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        loop = active()
        if a is None and loop is not None:
            a = _randomness(loop).getrandbits(256)
        original(self, a, version)

    return seed


def _names() -> dict[Any, Any]:
    def bytes_of(loop: "SimLoop", size: int, flags: int = 0) -> bytes:
        if size < 0:
            raise ValueError("negative argument not allowed")
        return _randomness(loop).randbytes(size)

    def pid(loop: "SimLoop") -> int:
        life = CURRENT.get()
        return getpid() if life is None else _FIRST_PID + life.pid

    def host(loop: "SimLoop") -> str:
        life = CURRENT.get()
        return gethostname() if life is None else life.name

    def tasks(loop: "SimLoop", of: asyncio.AbstractEventLoop | None = None) -> Any:
        """Those of the process that asks: it may want to cancel them all."""
        return set(loop.tasks_of(CURRENT.get())) if of is None or of is loop else all_tasks(of)

    def at_exit(loop: "SimLoop", function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """A simulated process calls it at its own end, and not if it is killed."""
        life = CURRENT.get()
        if life is None:
            return register(function, *args, **kwargs)
        life.at_exit.append(partial(function, *args, **kwargs))
        return function

    register = atexit.register
    getpid, gethostname, all_tasks = os.getpid, socket.gethostname, asyncio.all_tasks
    return {
        atexit.register: _virtual(atexit.register, at_exit),
        os.urandom: _virtual(os.urandom, bytes_of),
        os.getrandom: _virtual(os.getrandom, bytes_of),
        os.getpid: _virtual(os.getpid, pid),
        socket.gethostname: _virtual(socket.gethostname, host),
        uuid.getnode: _virtual(uuid.getnode, lambda loop: _NODE),
        asyncio.Task: SimTask,
        asyncio.Future: SimFuture,
        asyncio.all_tasks: _virtual(asyncio.all_tasks, tasks),
    }


@cache
def replacements() -> dict[Any, Any]:
    """Functions, and what to put in their place wherever they are."""
    return _times() | _random_functions() | _names()


@cache
def _methods() -> tuple[dict[str, Any], Callable[..., Any]]:
    return _datetime_methods(), _seed()


def change_classes(stack: ExitStack) -> None:
    """Replace what has to be replaced at its place, in classes, until the stack is closed."""
    now, seed = _methods()
    stack.enter_context(attributes([(random.Random, "seed", seed)]))
    stack.enter_context(type_attributes(datetime.datetime, now))
    # uuid1 remembers its last time, and asks libuuid where there is one; tempfile keeps a generator once it has made it.
    for module, names in (
        (uuid, ("_generate_time_safe", "_UuidCreate", "_last_timestamp")),
        (tempfile, ("_name_sequence",)),
    ):
        space = vars(module)
        before = {name: space[name] for name in names}
        stack.callback(space.update, before)
        space.update(dict.fromkeys(before))
