"""One registered backend: what it is doing, and everything that the simulator can do to it.

Nothing here polls: whoever waits sleeps in poll(2) until the bell rings or the process ends, and gives up after
DEADLINE_S of real time, because a backend that runs that long has been lost.
"""

import ctypes
import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Callable
from typing import Final, Protocol

from duress.simulator.inside import REAL
from duress.simulator.server.errors import HarnessError
from duress.simulator.server.events import Blocked, Event, Gone, Held, Io, Point, Ready, WaitClass
from duress.simulator.server.library import Library
from duress.simulator.server.page import (
    ALARM,
    ALWAYS,
    BLOCKED,
    CANCEL,
    GONE,
    HELD,
    RUNNING,
    SENDING,
    SIGNALS,
    TERMINATE,
    Page,
    Slot,
)

DEADLINE_S: Final = 10.0
BARRIER: Final = b"ProcSignalBarrier"
STATES: Final = {RUNNING: "running", BLOCKED: "blocked", HELD: "held", GONE: "gone"}


class Registry(Protocol):
    """What a backend needs of its cell."""

    page: Page

    @property
    def backends(self) -> "tuple[Backend, ...]": ...

    def unregister(self, backend: "Backend") -> None: ...

    def describe(self) -> list[str]: ...


class Backend:
    """A backend under control; made by `Cell.adopt`.

    `number` is its place in the order of registration and the only name that may go into a record: process ids differ
    from run to run.
    """

    def __init__(self, registry: Registry, library: Library, slot: Slot, number: int) -> None:
        self.number = number
        self.pid = slot.pid
        self._registry = registry
        self._page = registry.page
        self._library = library
        self._slot = slot
        self._address = ctypes.addressof(slot)
        self._process = os.pidfd_open(self.pid)  # names this very process, whoever gets its number later
        self._poll = self._page.poll()
        self._poll.register(self._process, select.POLLIN)
        self._registered = True

    def welcome(self) -> None:
        """Wait until it has noticed that it is registered; once, before anything is sent to it."""
        self._send(signal.SIGURG)  # what sets a latch: it comes round, whether it waits for its client or is about to
        self._until(self._welcomed, "notice its registration")

    # What it is doing

    def wait(self, fileno: int, writing: bool = False) -> Event:
        """Block until the backend has stopped: it waits for its client, for another session or the clock, is held, or ends.

        `fileno` is the client's end of the connection: Ready is said only when the backend has taken all that was sent.
        -1: there is no client any more, so it is never Ready. `writing`: return also when the socket takes more. Raises
        HarnessError, with the state of all backends, when nothing of that happens in DEADLINE_S seconds.
        """
        event = self._event(fileno)
        if event is not None:
            return event
        if writing:
            self._poll.register(fileno, select.POLLOUT)
        try:
            return self._until(lambda: self._event(fileno), "stop or answer", fileno if writing else -1)
        finally:
            if writing:
                self._poll.unregister(fileno)

    def _event(self, fileno: int) -> Event | None:
        slot = self._slot
        state = slot.state
        if state == BLOCKED:
            return Blocked(WaitClass(slot.wait_info >> 24), slot.wait_event.decode(), slot.until_us or None)
        if state == HELD:
            return Held(Point(slot.point))
        if state == GONE:
            return Gone()
        # First that it has taken everything, then that it waits: in this order both hold at the second look.
        if slot.idle and fileno >= 0 and not _unread(fileno) and (idle := slot.idle):
            return Ready(sending=idle == SENDING)
        return None

    def _until(self, look: Callable[[], Event | None], what: str, writable: int = -1) -> Event:
        """Sleep until `look` sees something, asked again whenever the bell rings; not at the deadline, or a bell that does not
        ring would only make us slow.
        """
        slot, page = self._slot, self._page
        deadline = REAL.monotonic() + DEADLINE_S
        slot.watch = 1
        try:
            while (event := look()) is None:
                heard = [fd for fd, _ in self._poll.poll(max(0.0, deadline - REAL.monotonic()) * 1000)]
                if page.bell in heard:
                    page.silence()
                if self._process in heard:
                    return look() or self._ended()
                if writable in heard:
                    return look() or Ready(writable=True)
                if not heard:
                    raise HarnessError(
                        f"backend {self.number} (pid {self.pid}) did not {what} in {DEADLINE_S:g} s of real time. "
                        "All backends:\n" + "\n".join(self._registry.describe())
                    )
            return event
        finally:
            slot.watch = 0

    def _ended(self) -> Gone:
        """The process is no more; one that was killed could not say so itself."""
        self._slot.state = GONE
        return Gone()

    @property
    def state(self) -> str:
        """`running` (idle included), `blocked`, `held` or `gone`."""
        return STATES[self._slot.state]

    @property
    def idle(self) -> bool:
        """Whether it waits for its client, as far as it has read what the client sent."""
        return self._slot.state == RUNNING and self._slot.idle != 0

    @property
    def woken(self) -> bool:
        """Whether it is blocked and its latch has been set since: granted, it looks whether what it waits for has come."""
        return self._slot.state == BLOCKED and self._slot.woken != 0

    @property
    def points(self) -> int:
        """How many points it has passed since it was registered."""
        return self._slot.points

    @property
    def timer_us(self) -> int | None:
        """When PostgreSQL's own timer (statement_timeout, lock_timeout, deadlock_timeout ...) is due, in virtual time."""
        return self._slot.timer_us or None

    @property
    def wait_until_us(self) -> int | None:
        """When the wait that it is blocked in times out (pg_sleep), in virtual time."""
        return self._slot.until_us or None if self._slot.state == BLOCKED else None

    @property
    def signals(self) -> int:
        """How many signals (NOTIFY and the like, cancel, terminate) other processes have sent it."""
        return sum(self._slot.sent[:ALARM])

    # What can be done to it

    def grant(self, timed_out: bool = False) -> None:
        """Let it go on: from the point it is held at, or from a wait, because it was woken or (`timed_out`) time is up."""
        slot = self._slot
        if slot.state not in (BLOCKED, HELD):
            raise HarnessError(
                f"backend {self.number} cannot be granted anything: it is {self.state}, not blocked or held"
            )
        if slot.state == BLOCKED and not timed_out and not slot.woken:
            raise HarnessError(
                f"backend {self.number} waits for {slot.wait_event.decode()} and nobody has woken it: it would wait on, "
                "out of control. Grant it when it is woken, or with timed_out"
            )
        if timed_out and not 0 < slot.until_us <= self._page.header.now_us:
            raise HarnessError(
                f"the wait of backend {self.number} is over at {slot.until_us or 'no time'} µs, and it is "
                f"{self._page.header.now_us} µs: set the clock first"
            )
        self._library.control_grant(self._address)
        if timed_out:
            # What sets a latch. It leaves the kernel's wait, and PostgreSQL finds by the clock that time is up.
            self._send(signal.SIGURG)

    def arm(self, k: int | None, kinds: Point = Point.ANY) -> None:
        """Hold it at the k-th point of these kinds from now; None: at none."""
        if k is not None and k < 1:
            raise HarnessError(f"backend {self.number} cannot be held at point number {k}: the next one is 1")
        self._slot.arm_kinds = kinds
        self._slot.arm = k or 0

    @property
    def armed(self) -> int:
        """After how many more points it will be held; 0: not armed, or held already."""
        return self._slot.arm

    def fail_io(self, errno: int, after: int = 1, kinds: Io = Io.DATA_WRITE, *, times: int | None = 1) -> None:
        """Make calls of these kinds fail with an error number: from the `after`-th from now on `times` in a row, or all (None).

        Where a sync is to fail this backend syncs, whatever the server's `fsync` is. `io_failed` counts what has failed.
        """
        slot = self._slot
        slot.io_times = 0  # first: it may be reading this
        slot.io_errno, slot.io_kinds, slot.io_after = errno, kinds, after
        slot.io_times = ALWAYS if times is None else times

    @property
    def io_failed(self) -> int:
        """How many of its writes and syncs were made to fail."""
        return self._slot.io_failed

    @property
    def panicked(self) -> bool:
        """Whether one of them was of a kind after which PostgreSQL does not go on: of the log, or a sync."""
        return bool(self._slot.io_failed and self._slot.io_kinds & (Io.SYNC | Io.WAL_WRITE))

    def shift(self, us: int) -> None:
        """Its timer and the end of its wait are told by a clock that was set forward by so much: they are as far away."""
        slot = self._slot
        slot.timer_us += us if slot.timer_us else 0
        slot.until_us += us if slot.until_us else 0

    def deliver_timer(self) -> None:
        """Let its timer go off, now that it is due, and wait until PostgreSQL has taken it in and set the next.

        A blocked backend is woken by it. Every timer must be delivered: PostgreSQL sets no other before.
        """
        slot, due = self._slot, self.timer_us
        if due is None or due > self._page.header.now_us:
            raise HarnessError(
                f"the timer of backend {self.number} is due at {due} µs, and it is {self._page.header.now_us} µs: set the "
                "clock first"
            )
        slot.timer_us = 0
        slot.sent[ALARM] += 1
        self._send(signal.SIGALRM)
        self.settle()

    def settle(self) -> None:
        """Wait until it has taken in all signals that it was sent.

        Then it waits for its client again (and has sent it what it had to say), or is held, or blocked and woken, or gone.
        """
        self._until(self._settled, "take in its signals")

    @property
    def unsettled(self) -> bool:
        """Whether it was sent signals that it has not yet taken in, or is still at work on."""
        return self._settled() is None

    def _settled(self) -> Event | None:
        slot = self._slot
        if slot.state == GONE:
            return Gone()
        if any(slot.sent[i] != slot.handled[i] for i in range(SIGNALS)):
            return None
        if slot.state == HELD:
            return Held(Point(slot.point))
        if slot.state == BLOCKED:
            return None if self._waits_for_background else Ready()
        return Ready() if slot.idle else None

    @property
    def _waits_for_background(self) -> bool:
        """Whether it waits for all processes to take note of something (DROP DATABASE), and none of ours has yet to go on."""
        slot = self._slot
        if slot.woken or slot.wait_event != BARRIER:
            return False
        return not any(
            other is not self and (other.woken or other.state == "held") for other in self._registry.backends
        )

    def _welcomed(self) -> Event | None:
        slot = self._slot
        return Ready() if slot.welcomed == slot.serial and slot.idle else None

    def kill(self) -> None:
        """SIGKILL, and wait for its end. The server then ends all sessions and recovers: `Cell.recover` waits for that."""
        self._send(signal.SIGKILL)
        self.wait_gone()

    def terminate(self) -> None:
        """SIGTERM, as pg_terminate_backend sends it; wait until it is taken in. A blocked backend is woken by it."""
        self._signal(TERMINATE, signal.SIGTERM)

    def cancel(self) -> None:
        """SIGINT, as the postmaster sends it for a cancel request; wait until it is taken in. Wakes a blocked backend."""
        self._signal(CANCEL, signal.SIGINT)

    def _signal(self, which: int, number: signal.Signals) -> None:
        self._slot.sent[which] += 1
        self._send(number)
        self.settle()

    def wait_gone(self) -> None:
        """Wait until the process has ended; it must be on its way (its client has closed, it was terminated)."""
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        if not poll.poll(DEADLINE_S * 1000):
            raise HarnessError(
                f"backend {self.number} (pid {self.pid}) did not end in {DEADLINE_S:g} s of real time. All backends:\n"
                + "\n".join(self._registry.describe())
            )
        self._slot.state = GONE

    def release(self) -> None:
        """Control it no longer: what it was stopped by, it goes on from by itself, in real time. May be called twice."""
        if not self._registered:
            return
        self._registered = False
        blocked = self._slot.state == BLOCKED
        self._library.control_release(ctypes.addressof(self._page.header), self._address)
        if blocked:
            self._send(signal.SIGURG)  # so that it leaves the endless wait that it was put in
        self._slot = Slot.from_buffer_copy(self._slot)  # the last that was known of it: the slot may be another's now
        os.close(self._process)
        self._registry.unregister(self)

    def end(self) -> None:
        """Terminate it wherever it stands, wait until its process has ended, and release it. May be called twice."""
        if self._registered:
            self._send(signal.SIGTERM)
            self._library.control_release(ctypes.addressof(self._page.header), self._address)
            self.wait_gone()
            self.release()

    def describe(self) -> str:
        """Its state in a line, for an error."""
        slot = self._slot
        parts = [f"backend {self.number} (pid {self.pid}): {self.state}"]
        if slot.state == BLOCKED:
            parts.append(f"for {slot.wait_event.decode()}{' (woken)' if slot.woken else ''}")
        if slot.state == HELD:
            parts.append(f"at {Point(slot.point).name}")
        if slot.state == RUNNING and slot.idle:
            parts.append("waiting for its client" + (" to read" if slot.idle == SENDING else ""))
        if slot.timer_us:
            parts.append(f"timer in {slot.timer_us - self._page.header.now_us} µs")
        if list(slot.sent) != list(slot.handled):
            parts.append(f"signals sent {list(slot.sent)}, taken in {list(slot.handled)}")
        return ", ".join(parts)

    def _send(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self._process, number)
        except ProcessLookupError:
            self._slot.state = GONE


def _unread(fileno: int) -> int:
    """How many bytes that were sent on a socket its peer has not taken."""
    (count,) = struct.unpack("i", fcntl.ioctl(fileno, termios.TIOCOUTQ, b"\0\0\0\0"))
    return int(count)
