"""One direction of one connection, behind the reading: what passes may be kept, delayed or slowed, in order."""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import deque
from typing import Final

from duress.faults.proxy.orders import Ending, Shape

MOST_KEPT: Final = 8 << 20  # bytes; more than that is left in the kernel, so that a sender feels it in the end
SLICES: Final = 100  # per second, of what passes a narrow leg
_RESET: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 s

Parcel = bytes | Ending


class Leg:
    """Takes bytes and an ending, and gives them to its sink when they are due and it is there. Its source, from which they
    come, is paused when too much waits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, entropy: random.Random) -> None:
        self._loop = loop
        self._entropy = entropy
        self._source: asyncio.Transport | None = None
        self._sink: asyncio.Transport | None = None
        self.shape: Shape | None = None
        self.withheld = False
        self.ended = False  # nothing more will pass
        self._waiting: deque[tuple[float, Parcel]] = deque()
        self._kept = 0
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused: set[str] = set()

    @property
    def clear(self) -> bool:
        """What is sent now goes on at once."""
        return not (self._waiting or self.withheld or self.shape or self.ended or self._sink is None)

    @property
    def waiting(self) -> bool:
        """Something has not gone on yet."""
        return bool(self._waiting)

    def send(self, data: bytes) -> None:
        """Pass bytes on, now or when they are due."""
        if self.ended or not data:
            return
        if self.clear:
            self._give(data)
        elif self.shape is not None and self.shape.bandwidth is not None:
            size = max(1, int(self.shape.bandwidth / SLICES))
            for at in range(0, len(data), size):
                self._keep(data[at : at + size])
        else:
            self._keep(data)

    def end(self, how: Ending) -> None:
        """The last thing that passes: the sink is closed for writing, or reset."""
        if self.ended:
            return
        if self._waiting or self.withheld or self._sink is None:
            self._keep(how)
        else:
            self._finish(how)
        self.ended = True

    def abandon(self, how: Ending | None = None) -> None:
        """Nothing more passes, not even what waits; the sink is ended at once, if it is said how."""
        self._waiting.clear()
        self._kept = 0
        self.ended = True
        self._stop_timer()
        if how is not None:
            self._finish(how)

    def come_from(self, source: asyncio.Transport) -> None:
        """Where the bytes come from."""
        self._source = source
        if self._paused:
            source.pause_reading()

    def go_to(self, sink: asyncio.Transport) -> None:
        """Where they go; what has come before goes now."""
        self._sink = sink
        self._pump()

    def hold(self) -> None:
        """Keep everything from now on."""
        self.withheld = True
        self._stop_timer()

    def release(self) -> None:
        """Let everything go that is due."""
        self.withheld = False
        self._pump()

    def reshape(self, shape: Shape | None) -> None:
        """What waits keeps its time."""
        self.shape = shape

    def pause(self, why: str, on: bool) -> None:
        """Read nothing more from the source, for a reason, until it is gone."""
        before = bool(self._paused)
        (self._paused.add if on else self._paused.discard)(why)
        if self._source is not None and before != bool(self._paused) and not self._source.is_closing():
            (self._source.pause_reading if on else self._source.resume_reading)()

    def _keep(self, parcel: Parcel) -> None:
        now = time.monotonic()  # uvloop's own time is that of its last turn, in milliseconds
        due = max(now, self._waiting[-1][0] if self._waiting else 0.0)
        if self.shape is not None and isinstance(parcel, bytes):
            if self.shape.bandwidth is not None:
                self._free_at = max(now, self._free_at) + len(parcel) / self.shape.bandwidth
            else:
                self._free_at = now
            late = self._free_at + self.shape.latency + self._entropy.uniform(0.0, self.shape.jitter)
            due = max(due, late)
        self._waiting.append((due, parcel))
        if isinstance(parcel, bytes):
            self._kept += len(parcel)
            if self._kept > MOST_KEPT:
                self.pause("full", True)
        if self._timer is None:
            self._pump()

    def _pump(self) -> None:
        self._stop_timer()
        if self.withheld or self._sink is None:
            return
        now = time.monotonic()
        while self._waiting:
            due, parcel = self._waiting[0]
            if due > now:
                self._timer = self._loop.call_later(due - now, self._pump)
                return
            self._waiting.popleft()
            if isinstance(parcel, bytes):
                self._kept -= len(parcel)
                self._give(parcel)
            else:
                self._finish(parcel)
        if self._kept <= MOST_KEPT // 2:
            self.pause("full", False)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give(self, data: bytes) -> None:
        if self._sink is not None and not self._sink.is_closing():
            self._sink.write(data)

    def _finish(self, how: Ending) -> None:
        if self._sink is None:
            return
        if how == "rst":
            reset(self._sink)
        elif not self._sink.is_closing():
            with contextlib.suppress(OSError):  # the other side has reset it just now
                self._sink.write_eof()


def reset(transport: asyncio.Transport) -> None:
    """Close at once and lose what was not sent; over TCP the peer gets a RST."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
