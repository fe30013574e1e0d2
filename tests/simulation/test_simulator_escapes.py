"""What would leave the simulation raises at the call, says what to use, and is remembered even if the program swallows it."""

import _thread
import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from stage import play

from duress.simulator.errors import Escape
from duress.simulator.inside import outside
from duress.simulator.loop import SimLoop

ESCAPES: dict[str, Callable[[], Any]] = {
    "threading.Thread.start": lambda: Thread(target=print).start(),
    "thread.start_new_thread": lambda: _thread.start_new_thread(print, ()),
    "concurrent.futures.thread.ThreadPoolExecutor.submit": lambda: concurrent.futures.ThreadPoolExecutor().submit(
        print
    ),
    "concurrent.futures.process.ProcessPoolExecutor.submit": lambda: concurrent.futures.ProcessPoolExecutor().submit(
        print
    ),
    "concurrent.futures.Future.result": lambda: concurrent.futures.Future[int]().result(),
    "multiprocessing.process.BaseProcess.start": lambda: multiprocessing.Process(target=print).start(),
    "subprocess.Popen": lambda: subprocess.run(["true"], check=True),
    "os.fork": lambda: os.fork(),  # noqa: PLW0108  # held by value in a dictionary it would be the real one
    "os.posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "os.system": lambda: os.system("true"),
    "socket.socket": socket.socket,
    "signal.signal": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_it_is_refused_by_name_and_remembered(name: str) -> None:
    async def program(loop: SimLoop) -> list[str]:
        with pytest.raises(Escape, match=f"{name} leaves the simulation, .*: .*"):
            ESCAPES[name]()
        return loop.escapes

    assert play(program).result == [name]


def test_outside_of_a_run_it_works() -> None:
    async def program(loop: SimLoop) -> None:
        with outside():
            subprocess.run(["true"], check=True)  # noqa: ASYNC221
            socket.socket().close()
            thread = threading.Thread(target=print)
            thread.start()
            thread.join()

    play(program)
    subprocess.run(["true"], check=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert pool.submit(int, "5").result() == 5


def test_a_new_event_loop_is_an_escape_too() -> None:
    async def program(loop: SimLoop) -> None:
        with pytest.raises(Escape, match=r"asyncio\.new_event_loop"):
            asyncio.new_event_loop()

    play(program)


def test_another_driver_is_refused_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = types.ModuleType("asyncpg")
    vars(driver).update(connect=lambda: "connected", create_pool=lambda: "connected")
    monkeypatch.setitem(sys.modules, "asyncpg", driver)

    async def program(loop: SimLoop) -> None:
        for name in ("connect", "create_pool"):
            with pytest.raises(Escape, match=rf"asyncpg\.{name} leaves .*psycopg"):
                getattr(driver, name)()

    play(program)
    assert driver.connect() == "connected"


def test_a_signal_handler_of_the_harness_is_refused() -> None:
    async def program(loop: SimLoop) -> None:
        with pytest.raises(Escape, match="add_signal_handler"):
            loop.add_signal_handler(signal.SIGTERM, print)

    play(program)
