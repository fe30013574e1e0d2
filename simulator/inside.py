"""Whether the code that asks runs inside a simulation, and the real functions for the harness's own needs.

Only the thread that simulates is inside; other threads (pytest-xdist's, a debugger's) see the real world throughout.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

from .errors import SimulationError

if TYPE_CHECKING:
    from .loop import SimLoop

# Held by attributes of an object, which are left alone when names in modules are bound to the virtual functions.
REAL: Final = SimpleNamespace(
    time=time.time,
    monotonic=time.monotonic,
    monotonic_ns=time.monotonic_ns,
    perf_counter=time.perf_counter,
    perf_counter_ns=time.perf_counter_ns,
    sleep=time.sleep,
    urandom=os.urandom,
    getpid=os.getpid,
)

_loop: "SimLoop | None" = None
_thread = 0


def active() -> "SimLoop | None":
    """The loop of the simulation that the caller is inside of, or None."""
    return _loop if _loop is not None and get_ident() == _thread else None


@contextmanager
def entered(loop: "SimLoop") -> Iterator[None]:
    """This thread is inside. Raises SimulationError if a simulation is under way in this process."""
    global _loop, _thread
    if _loop is not None or _outside:
        raise SimulationError(
            "a simulation is under way already: runs cannot be nested, nor share a process at one time"
        )
    _loop, _thread = loop, get_ident()
    try:
        yield
    finally:
        _loop = None


_outside = 0


@contextmanager
def outside() -> Iterator[None]:
    """The harness's own code, which needs the real world for a moment: a server to start, a deadline to keep.

    Nothing that the simulated program can see may depend on what is read there.
    """
    global _loop, _outside
    loop, _loop = _loop, None
    _outside += 1
    try:
        yield
    finally:
        _outside -= 1
        _loop = loop
