"""The page: a file mapped by the simulator and by every process of its server, and the bell that says it has changed.

The layout is that of native/control.h. The file is sized once, for every connection that the server admits: pages that
nobody touches take no memory, and no backend ever has to map more.
"""

import ctypes
import mmap
import os
import select
from pathlib import Path
from typing import Final

VERSION: Final = 4
SIGNALS: Final = 4  # SIGUSR1, SIGINT, SIGTERM, SIGALRM
CANCEL: Final = 1
TERMINATE: Final = 2
ALARM: Final = 3
RUNNING, BLOCKED, HELD, GONE = range(4)  # GONE is said by us alone, when the process has ended
READING, SENDING = 1, 2
NAME_BYTES: Final = 64  # of a name of PostgreSQL's, with the zero that ends it
ALWAYS: Final = 2**32 - 1  # of io_times
PAGE_VARIABLE: Final = "DURESS_CONTROL_PAGE"
BELL_VARIABLE: Final = "DURESS_CONTROL_BELL"

_u32, _i64, _u64 = ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64


class Header(ctypes.Structure):
    """What all processes of the server share."""

    version: int
    slots: int
    now_us: int
    on: int
    used: int
    generation: int
    attention: int
    attached: int
    jump_us: int
    error: bytes
    _fields_ = (
        *((name, _u32) for name in ("version", "slots")),
        ("now_us", _i64),
        *((name, _u32) for name in ("on", "used", "generation", "attention", "attached", "spare")),
        ("jump_us", _i64),
        ("error", ctypes.c_char * 208),
    )


class Slot(ctypes.Structure):
    """One registered backend."""

    pid: int
    state: int
    grant: int
    woken: int
    wait_info: int
    point: int
    points: int
    arm: int
    arm_kinds: int
    idle: int
    watch: int
    timer_us: int
    until_us: int
    seed: int
    random: int
    sent: "ctypes.Array[ctypes.c_uint32]"
    handled: "ctypes.Array[ctypes.c_uint32]"
    io_after: int
    io_kinds: int
    io_errno: int
    io_failed: int
    io_times: int
    serial: int
    welcomed: int
    wait_event: bytes
    name: bytes
    _fields_ = (
        *((name, _u32) for name in ("pid", "state", "grant", "woken", "wait_info", "spare", "point", "points")),
        *((name, _u32) for name in ("arm", "arm_kinds", "idle", "watch")),
        *((name, _i64) for name in ("timer_us", "until_us")),
        *((name, _u64) for name in ("seed", "random")),
        *((name, _u32 * SIGNALS) for name in ("sent", "handled")),
        *((name, _u32) for name in ("io_after", "io_kinds", "io_errno", "io_failed")),
        *(
            ("serial", _u32),
            ("welcomed", _u32),
            ("io_times", _u32),
            ("unused", _u32),
            ("wait_event", ctypes.c_char * 64),
            ("name", ctypes.c_char * NAME_BYTES),
            ("rest", ctypes.c_char * 48),
        ),
    )


class Page:
    """The mapped file, with room for `slots` backends, and the reading end of the bell; both lie in `folder`."""

    def __init__(self, folder: Path, slots: int) -> None:
        size = ctypes.sizeof(Header) + slots * ctypes.sizeof(Slot)
        self.path = folder / "page"
        self.bell_path = folder / "bell"
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, size)
            self._memory = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        os.mkfifo(self.bell_path, 0o600)
        # Both ends, or it would count as closed while no server runs. The server opens the writing end alone: when this
        # process is gone there is no reader left, which is how a held backend learns of it.
        self.bell = os.open(self.bell_path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.header = Header.from_buffer(self._memory)
        self.slots: list[Slot] = [
            Slot.from_buffer(self._memory, ctypes.sizeof(Header) + i * ctypes.sizeof(Slot)) for i in range(slots)
        ]
        self.header.version, self.header.slots, self.header.generation = VERSION, slots, 1
        self._serial = 0

    @property
    def environment(self) -> dict[str, str]:
        """What tells the library in the server where the page is."""
        return {PAGE_VARIABLE: str(self.path), BELL_VARIABLE: str(self.bell_path)}

    def register(self, pid: int, seed: int, name: bytes = b"") -> Slot | None:
        """Give a backend a slot; None when all are taken. `name`: see `Cell.adopt`."""
        header = self.header
        index = next((i for i, slot in enumerate(self.slots) if slot.pid == 0), None)
        if index is None:
            return None
        slot = self.slots[index]
        ctypes.memset(ctypes.addressof(slot), 0, ctypes.sizeof(slot))
        self._serial += 1
        slot.serial, slot.seed, slot.random, slot.name = self._serial, seed, seed, name
        header.used = max(header.used, index + 1)
        slot.pid = pid
        header.generation += 1  # last: from now on the backend looks for itself
        return slot

    def silence(self) -> None:
        """Take what has rung."""
        try:
            while len(os.read(self.bell, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def poll(self) -> select.poll:
        """A poll object that listens to the bell."""
        poll = select.poll()
        poll.register(self.bell, select.POLLIN)
        return poll

    def close(self) -> None:
        """Close the bell; the memory goes with the last reference to it."""
        if self.bell >= 0:
            os.close(self.bell)
            self.bell = -1
