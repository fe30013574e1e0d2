"""What can happen to the server of a run: sessions are terminated, it crashes, stops, starts, stands still. All for real.

How long it is away is virtual: while it recovers, connections are answered "the database system is in recovery mode"
(57P03), and while it is stopped they are refused.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from .clock import SECOND
from .inside import outside
from .server import Gone, Io
from .server.settings import MAX_CONNECTIONS
from .server_end import ServerEnd, connect
from .wire import startup_packet

if TYPE_CHECKING:
    from .process import SimProcess
    from .server import Cell
    from .session import Session
    from .sessions import Sessions

StopMode = Literal["fast", "immediate"]

# A crash restart takes 0.12 s where it was measured, most of it to notice and to start.
_RECOVERY_S: Final = (0.05, 0.15)
_START_S: Final = (0.1, 0.3)


class Outages:
    """The server's faults, for `Run.server`. They hold for all processes and are over when the run is."""

    def __init__(self, sessions: "Sessions", cell: "Cell") -> None:
        self._sessions = sessions
        self._cell = cell
        self._loop = sessions.loop
        self._events = sessions.loop.chain("server")
        self._waiters: list[asyncio.Future[None]] = []
        self._strangers: list[ServerEnd] = []
        self._capacity = MAX_CONNECTIONS  # sessions of the run and strangers together, once the server has refused one
        sessions.panicked = self.panicked

    def terminate(self, process: "SimProcess | str", *, in_transaction: bool = False) -> "Session | None":
        """SIGTERM to one session of a process: one in a transaction if there is any, or (`in_transaction`) only such a one.

        None: it has none. An idle session is gone when this returns; another when it next looks (`await gone`).
        """
        name = process if isinstance(process, str) else process.name
        session = self._pick(name, in_transaction=in_transaction)
        if session is not None:
            self._note(f"terminate session {session.number}")
            session.terminate()
            self._sessions.look_around()
        return session

    async def gone(self, session: "Session") -> None:
        """Wait until a session has ended."""
        await session.gone()

    def crash(self, process: "SimProcess | str | None" = None) -> "Session | None":
        """SIGKILL to the backend of a session, of `process` or (None, or if that has none) of any: all sessions are lost.

        When this returns the server recovers; `await ready()`. None: there was no session, and nothing happened.
        """
        name = process if isinstance(process, str) else process.name if process is not None else None
        session = self._pick(name) or self._pick(None)
        if session is not None:
            self.kill(session)
        return session

    def kill(self, session: "Session") -> None:
        """The same to the backend of one session, wherever it stands: also where it was caught around its COMMIT."""
        self._note(f"kill the backend of session {session.number}")
        self._sessions.set_now()
        session.end.backend.kill()
        self._recover()

    def _recover(self) -> None:
        with outside():
            self._cell.recover()
        self._lost("recovering", _RECOVERY_S)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server: "fast" ends its sessions in order (57P01), "immediate" makes them quit as a crash does."""
        if mode not in ("fast", "immediate"):
            raise ValueError(f"the server is stopped fast or immediate, not {mode!r}")
        self._note(f"stop {mode}")
        self._sessions.set_now()
        if mode == "fast":
            for session in self._sessions.live:
                session.end_now()
            with outside():
                self._cell.server.stop("fast")
        else:
            with outside():
                self._cell.crash()
        self._lost("stopped", None)

    def start(self) -> None:
        """Start it again; `await ready()`. Does nothing if it was not stopped."""
        if self._sessions.away == "stopped":
            self._note("start")
            with outside():
                self._cell.restart()
            self._lost("recovering", _START_S)

    def close(self) -> None:
        """The run is over: the next one needs a server, and its connections."""
        self._sessions.reserve.leave_strangers(self._strangers, len(self._sessions.live))
        if self._sessions.away == "stopped":
            self._cell.restart()

    async def ready(self) -> None:
        """Wait until connections are accepted."""
        if self._sessions.away:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def take_connections(self) -> None:
        """Strangers take all connections that are free now, those too that are kept for later, until `give_back`."""
        sessions = self._sessions
        sessions.wholly_taken = True
        if len(sessions.live) + len(self._strangers) >= self._capacity:
            return
        startup = startup_packet(user="duress", database="postgres", application_name="stranger")
        with outside():
            self._strangers += sessions.reserve.take_strangers()
            while isinstance(stranger := connect(self._cell, startup), ServerEnd):
                self._strangers.append(stranger)
        self._capacity = len(sessions.live) + len(self._strangers)
        self._note("strangers take all connections")

    def give_back(self) -> None:
        """The strangers leave."""
        self._note("the strangers leave")
        self._sessions.wholly_taken = False
        with outside():
            self._sessions.reserve.leave_strangers(self._strangers, len(self._sessions.live))
        self._strangers = []
        self._capacity = MAX_CONNECTIONS

    def fail_io(self, number: int, kinds: Io, *, process: str | None = None, times: int | None = None) -> None:
        """Let file operations of all backends (of a process: of its sessions), also of those to come, fail with an error
        number, until `mend`: each `times` times, or always. One of the log's, or a sync, is a PANIC: the server goes down.
        """
        self._note(f"let {kinds!r} fail with error {number}")
        self._sessions.broken = Broken(number, kinds, process, times)
        for session in self._sessions.live:
            self._sessions.broken.apply(session)

    def mend(self) -> None:
        """File operations work again."""
        self._note("file operations work again")
        self._sessions.broken = None
        for session in self._sessions.live:
            session.end.backend.fail_io(0, times=0)

    @property
    def io_failures(self) -> int:
        """How many file operations of sessions have failed since the run began."""
        return self._sessions.io_failures + sum(session.end.backend.io_failed for session in self._sessions.live)

    def panicked(self) -> None:
        """A backend has found that it cannot go on safely, and the server goes down with it."""
        self._note("PANIC")
        if self._sessions.broken is not None and self._sessions.broken.times is not None:
            self._sessions.broken = None
        self._recover()

    def clock_jump(self, seconds: float) -> None:
        """Set the server's clock forward (or back), for good. Timers and waits do not notice, as on a real machine; but
        PostgreSQL looks at the clock when one goes off.
        """
        self._note(f"wall clock moved by {seconds} s")
        self._sessions.jump(round(seconds * 1_000_000))

    @property
    def clock_us(self) -> int:
        """What the server's clock shows now, in µs since 1970."""
        self._sessions.set_now()
        return self._cell.now_us

    @property
    def kept_waiting(self) -> int:
        """How many things wait for a server that stands still."""
        return self._sessions.gate.waiting

    def pause(self) -> None:
        """The server stands still: what arrives waits, and nobody gets an answer, until `resume`."""
        self._note("pause")
        self._sessions.gate.closed = True

    def resume(self) -> None:
        """It goes on as if nothing had been, but for the time."""
        self._note("resume")
        self._sessions.resume()

    def _lost(self, away: Literal["recovering", "stopped"], duration: tuple[float, float] | None) -> None:
        """All sessions have ended, also those that are kept for later."""
        sessions = self._sessions
        for stranger in self._strangers:
            stranger.close()
        self._strangers.clear()
        for session in sessions.live:
            session.stopped(Gone(), session.end.read())
        sessions.forget_kept()
        sessions.away = away
        if duration is not None:
            low, high = duration
            takes = self._loop.choices.uniform("faults", low * SECOND, high * SECOND, "recovery")
            self._events.call_at(self._loop.clock.now + round(takes), self._back)

    def _back(self) -> None:
        self._note("accepts connections")
        self._sessions.away = ""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _pick(self, process: str | None, *, in_transaction: bool = False) -> "Session | None":
        """The oldest one in a transaction; else, unless it must be one, the oldest that is at work; else the oldest."""
        found = [
            session
            for session in self._sessions.live
            if process is None or (session.process == process and session.link is not None)
        ]
        chosen = [session for session in found if session.in_transaction]
        if not chosen and not in_transaction:
            chosen = [session for session in found if session.at_work] or found
        return next(iter(chosen), None)

    def _note(self, text: str) -> None:
        self._loop.note("", "fault", f"server: {text}")


@dataclass(frozen=True, slots=True)
class Broken:
    """Which file operations fail, and how."""

    number: int
    kinds: Io
    process: str | None
    times: int | None

    def apply(self, session: "Session") -> None:
        if self.process in (None, session.process):
            session.end.backend.fail_io(self.number, kinds=self.kinds, times=self.times)


class Gate:
    """Keeps in order what happens at a server while it stands still."""

    def __init__(self) -> None:
        self.closed = False
        self._kept: list[Callable[[], object]] = []

    def keeps(self, action: Callable[..., object], *args: object) -> bool:
        """Whether `action` has to wait; then it is kept."""
        if self.closed:
            self._kept.append(partial(action, *args))
        return self.closed

    @property
    def waiting(self) -> int:
        return len(self._kept)

    def open(self) -> list[Callable[[], object]]:
        """What was kept."""
        self.closed = False
        kept, self._kept = self._kept, []
        return kept
