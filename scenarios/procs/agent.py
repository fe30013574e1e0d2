"""The observer within a worker process: it tells the harness each engine point before the engine goes on.

Sending blocks, so whatever was sent is in the kernel before the next line of the engine runs: a SIGKILL cannot take it
back. At an armed point the whole process stops (its heartbeat too) until the harness answers.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Mapping

import msgspec

from duress.faults.deathbed import PARENT_GONE
from duress.scenarios.points import Armed, Reported
from duress.scenarios.procs.wire import LINE_LIMIT, Go, Orders


class Agent:
    """An engine observer that writes to the socket inherited from the harness."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        self._socket = connection
        self._unread = b""
        self._lines = threading.Lock()  # no two threads within one line
        self._encode = msgspec.json.Encoder().encode
        self._decode_go = msgspec.json.Decoder(Go).decode
        self._armed: tuple[Armed, ...] = ()
        self._tells_time = False

    def orders(self) -> Orders:
        """Wait for the harness's first word."""
        orders = msgspec.json.decode(self._line(), type=Orders)
        self._armed = orders.armed
        if orders.clock is not None:
            os.environ["FAKETIME_TIMESTAMP_FILE"] = (
                orders.clock
            )  # libfaketime looks there whenever it is asked the time
            self._tells_time = True
        return orders

    def point(self, name: str, facts: dict[str, str | int | float | bool | None]) -> None:
        """Report a point; at an armed one, return only after the harness has answered."""
        held = any(armed.matches(name, facts.get("name")) for armed in self._armed)
        wall = time.time() if self._tells_time else None
        self._report(Reported(at=time.monotonic(), name=name, facts=facts, held=held, wall=wall))
        if held:
            self._armed = self._decode_go(self._line()).armed

    def said(self, name: str, facts: Mapping[str, str | bool]) -> None:
        """Report what code says of itself, in whichever thread it runs."""
        self._report(Reported(at=time.monotonic(), name=name, facts=dict(facts)))

    def leave_with_harness(self, loop: asyncio.AbstractEventLoop) -> None:
        """End this process when the harness hangs up, also while there is nothing to report."""
        loop.add_reader(self._socket, self._look)

    def _look(self) -> None:
        try:
            gone = not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            gone = True
        if gone:
            _leave()

    def _report(self, report: Reported) -> None:
        try:
            with self._lines:
                self._socket.sendall(self._encode(report) + b"\n")
        except OSError:
            _leave()

    def _line(self) -> bytes:
        while b"\n" not in self._unread:
            try:
                received = self._socket.recv(65536)
            except OSError:
                received = b""
            if not received or len(self._unread) > LINE_LIMIT:
                _leave()
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def _leave() -> None:
    """Nobody is left to work for. At once: a worker that tidied up would change what its successors see."""
    with contextlib.suppress(OSError):
        os.write(2, b"the harness is gone\n")
    os._exit(PARENT_GONE)
