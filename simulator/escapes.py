"""What would leave the simulation raises Escape at the call: threads, sockets, subprocesses, signals, other drivers."""

import _thread
import asyncio
import concurrent.futures
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, wraps
from multiprocessing import process as multiprocessing_process
from typing import Any, Final

from .inside import active
from .patches import attributes

_THREADS: Final = (
    "run the function by asyncio.to_thread or loop.run_in_executor, which call it here, at one point in time"
)
_SOCKETS: Final = "only connections to PostgreSQL, by psycopg.AsyncConnection, lead outside"
_PROCESSES: Final = "start a simulated process, or run the command outside of the simulation"
_LOOPS: Final = "use the loop that runs already"
_SIGNALS: Final = "inside a simulated process use loop.add_signal_handler for SIGTERM; `stop` calls it"
_ENDS: Final = "kill, stop or pause the simulated process, or raise SystemExit in it"
_DRIVERS: Final = "use psycopg's AsyncConnection, whose exchanges the simulation can see"

_FUNCTIONS: Final = (
    (_thread, ("start_new_thread", "start_joinable_thread"), _THREADS),
    (os, ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system"), _PROCESSES),
    (asyncio, ("new_event_loop",), _LOOPS),
    (signal, ("signal", "setitimer", "alarm"), _SIGNALS),
)
# The harness may signal the server; a simulated process has a number that means nothing to the operating system, or means
# somebody else.
_FOR_PROCESSES: Final = (
    (os, ("kill", "killpg", "abort", "_exit", "execv", "execve"), _ENDS),
    (signal, ("raise_signal", "pthread_kill"), _ENDS),
)
_METHODS: Final = (
    (threading.Thread, "start", _THREADS),
    (concurrent.futures.ThreadPoolExecutor, "submit", _THREADS),
    (concurrent.futures.ProcessPoolExecutor, "submit", _THREADS),
    (multiprocessing_process.BaseProcess, "start", _PROCESSES),
    (subprocess.Popen, "__init__", _PROCESSES),
    (socket.socket, "__init__", _SOCKETS),
)


def _refusing(
    original: Callable[..., Any], name: str, remedy: str, *, to_processes: bool = False
) -> Callable[..., Any]:
    """`original`, which a simulation refuses, or only the simulated processes in it."""

    @wraps(original)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        loop = active()
        if loop is not None and (loop.process is not None or not to_processes):
            loop.refuse(name, remedy)
        return original(*args, **kwargs)

    return refusing


def _result() -> Callable[..., Any]:
    """A thread's future that is not done: nobody could ever finish it while we wait."""
    original = concurrent.futures.Future.result

    @wraps(original)
    def result(self: "concurrent.futures.Future[Any]", timeout: float | None = None) -> Any:
        loop = active()
        if loop is not None and not self.done():
            loop.refuse(
                "concurrent.futures.Future.result", "nothing else runs while this thread waits: await it instead"
            )
        return original(self, timeout)

    return result


def refusals() -> dict[Any, Any]:
    """Functions, and what to put in their place wherever they are."""
    table = dict(_refusals())
    asyncpg = sys.modules.get("asyncpg")
    for name in ("connect", "create_pool") if asyncpg else ():
        function = getattr(asyncpg, name)
        table[function] = _driver(function, f"asyncpg.{name}")
    return table


@cache
def _refusals() -> dict[Any, Any]:
    table = {}
    for functions, to_processes in ((_FUNCTIONS, False), (_FOR_PROCESSES, True)):
        for module, names, remedy in functions:
            for name in names:
                original = getattr(module, name, None)
                if original is not None:
                    called = f"{module.__name__.lstrip('_')}.{name}"
                    table[original] = _refusing(original, called, remedy, to_processes=to_processes)
    return table


@cache
def _methods() -> list[tuple[Any, str, Callable[..., Any]]]:
    methods: list[tuple[Any, str, Callable[..., Any]]] = []
    for owner, name, remedy in _METHODS:
        called = f"{owner.__module__}.{owner.__qualname__}" + ("" if name == "__init__" else f".{name}")
        methods.append((owner, name, _refusing(vars(owner)[name], called, remedy)))
    return [*methods, (concurrent.futures.Future, "result", _result())]


@cache
def _driver(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    return _refusing(function, name, _DRIVERS)


def refuse_methods(stack: ExitStack) -> None:
    """Of classes, until the stack is closed."""
    stack.enter_context(attributes(_methods()))
