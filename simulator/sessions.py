"""The server's side of a run: every session is a participant of its own, whatever its client does meanwhile.

A session runs for real, in no virtual time, until it waits for its client, for another session or the clock, or is held.
What goes on then, and when, is an event of the loop: sessions that were woken, and timers that are due at one moment, are
candidates of the scheduler. A session whose client has gone goes on in the same way, and may still commit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal

from .catches import Catch, Imposed
from .clock import SECOND
from .outages import Broken, Gate
from .reserve import reserve_of
from .server import Point
from .server_end import connect
from .session import Session
from .stops import Stops
from .waits import blockers_of, describe_sessions
from .wire import refusal

if TYPE_CHECKING:
    from .control import Control
    from .link import Link
    from .loop import SimLoop
    from .server import Cell

_HOLD_POINTS: Final = 6
_LONGEST_HOLD_NS: Final = 3_000_000


@dataclass(slots=True)
class Counts:
    """What happened in a run."""

    exchanges: int = 0
    lock_waits: int = 0
    holds: int = 0
    timers: int = 0
    sessions: int = 0
    orphans: int = 0


class Sessions:
    """All sessions of one run; a source of the loop's time."""

    def __init__(
        self,
        loop: "SimLoop",
        cell: "Cell",
        keep: bool,
        holds: int,
        control: "Control",
    ) -> None:
        self.loop = loop
        self.counts = Counts()
        self.stops = Stops(lambda: loop.clock.now / SECOND)
        self._cell = cell
        self._keep = keep
        self.reserve = reserve_of(cell)
        self._holds = holds
        self._control = control
        self._live: list[Session] = []
        self.timed: dict[Session, int] = {}  # when those want to be told the time that are not to act anyway
        self._attention = cell.attention
        self.gate = Gate()  # closed while the server stands still
        self.away: Literal["", "recovering", "stopped"] = ""
        self.all_lost = False  # at least once: the server has ended all sessions
        self.catches: list[Catch] = []
        self.imposed: dict[str, list[Imposed]] = {}
        self.wholly_taken = False  # strangers hold all of the server's connections
        self.broken: Broken | None = None
        self.io_failures = 0  # of sessions that have ended
        self.panicked: Callable[[], object] = bool
        self._looking = False
        self._clock_us = -1
        self.ahead_us = 0  # the server's clock, of the run's
        self._events = loop.chain("sessions")
        loop.add_source(self)

    def open(self, link: "Link", startup: bytes) -> Session | None:
        """A startup packet has arrived: a session for it, unless the server refuses."""
        if self.away:
            if self.away == "recovering":
                link.reply(refusal("57P03", "the database system is in recovery mode"))
            link.hung_up()
            return None
        self.set_now()
        end = self.reserve.take(startup) if self._keep and not self.wholly_taken else None
        if end is None:
            self.reserve.make_room(len(self._live))
            made = connect(self._cell, startup)
            if isinstance(made, bytes):
                link.reply(made)
                link.hung_up()
                return None
            end = made
        self.counts.sessions += 1
        number = self.counts.sessions
        seed = _seed(self.loop.choices.seed, number)
        end.adopt(seed)
        end.begin(seed % 2**32 / 2**32)
        session = Session(self, link, end, number)
        self._live.append(session)
        self.loop.record.remark(self.loop.clock.now, link.process, "session", f"#{link.number} is session {number}")
        if self.broken is not None:
            self.broken.apply(session)
        link.reply(end.greeting)
        return session

    def catch(
        self,
        process: str,
        at: Point | None,
        wanted: Callable[[Session], bool] = lambda session: True,
        *,
        nth: int = 1,
    ) -> Catch:
        """Stop the next session of a process that comes to a point (None: is idle in a transaction) and is `wanted`."""
        made = Catch(self, process, at, nth, wanted)
        self.catches.append(made)
        return made

    def impose(
        self, process: str, settings: dict[str, str], *, inside: dict[str, str] | None = None
    ) -> Callable[[], None]:
        """Give all sessions of a process these settings, until what is returned is called. See Imposed."""
        made = Imposed(settings, inside or {})
        self.imposed.setdefault(process, []).append(made)

        def lift() -> None:
            made.lifted = True

        return lift

    def remove(self, session: Session) -> None:
        """It is gone."""
        if session in self._live:  # else it is kept
            self._live.remove(session)
            self.io_failures += session.end.backend.io_failed
            session.end.close()

    @property
    def live(self) -> tuple[Session, ...]:
        return tuple(self._live)

    def leave(self, session: Session) -> bool:
        """An orderly session ends: keep its process for another one, if it can be and there is room."""
        room = not self.wholly_taken and self.reserve.has_room(len(self._live))
        failed = session.end.backend.io_failed
        if not (self._keep and room and session.orderly and session.end.leave(idle=session.idle)):
            return False
        self._live.remove(session)
        self.io_failures += failed
        self.reserve.keep(session.end)
        return True

    def close(self) -> None:
        """The run is over: end all sessions, or keep them for another one."""
        for session in sorted(
            self._live, key=lambda session: session.orderly
        ):  # those that may hold up others go first
            if not self.leave(session):
                session.end.finish()
        self._live.clear()

    def forget_kept(self) -> None:
        """The server has ended all sessions."""
        self.reserve.lost()
        self._attention = self._cell.attention
        self._control.close()
        self.all_lost = True

    def resume(self) -> None:
        """What had to wait happens, in its order."""
        for action in self.gate.open():
            self._events.call_soon(action)

    def set_now(self) -> None:
        """Show the server the run's time."""
        now = self.loop.clock.unix_us + self.ahead_us
        if now != self._clock_us:
            self._clock_us = now
            self._cell.set_now(now)

    def jump(self, us: int) -> None:
        """The server's clock is set forward; timers go off when they would have."""
        self.ahead_us += us
        self._cell.jump(us)
        for session in self._live:
            session.end.backend.shift(us)
            session.look_at_timers()
        self.set_now()

    def draw_hold(self) -> int:
        """0: let the exchange run; else at which of its points it is to be held."""
        if not self._holds or self.loop.choices.draw("schedule", self._holds, "hold") != self._holds - 1:
            return 0
        return 1 + self.loop.choices.draw("schedule", _HOLD_POINTS, "point")

    def let_go_later(self, session: Session) -> None:
        """A held session goes on after a drawn time, and then when the scheduler lets it."""
        delay = round(self.loop.choices.uniform("schedule", 0, _LONGEST_HOLD_NS, "hold for"))
        session.events.call_at(self.loop.clock.now + delay, session.let_go)

    def say_who_blocks(self, session: Session) -> None:
        """For a trace: whom a session waits for. The server is asked while it stands still, which changes nothing."""
        loop = self.loop
        if loop.record.takes_remarks and (blockers := blockers_of(session, self._live, self._control)):
            named = ", ".join(str(number) for number in blockers)
            loop.record.remark(loop.clock.now, "", "blocked", f"session {session.number} by session {named}")

    def look_around(self) -> None:
        """See what an exchange has done to other sessions, until nothing more comes of it."""
        if self._looking:
            return
        self._looking = True
        try:
            while self._attention != (now := self._cell.attention):
                self._attention = now
                for session in tuple(self._live):
                    session.look()
        finally:
            self._looking = False

    # A source of time

    def next_at(self) -> int | None:
        """The earliest timer of any session."""
        if self.gate.closed:
            return None
        return min(self.timed.values(), default=None)

    def advance(self, now: int) -> None:
        """Time has moved: what is due is up to the scheduler from here."""
        if self.gate.closed:
            return
        due = [session for session, at in self.timed.items() if at <= now]
        for session in sorted(due, key=lambda session: session.number):
            session.time_has_come()

    def describe(self) -> list[str]:
        """Every session, for the report of a run that is stuck."""
        return describe_sessions(self._live, self._control)


def _seed(seed: int, number: int) -> int:
    """Not 0, 64 bits."""
    return int.from_bytes(blake2b(f"{seed}/session/{number}".encode(), digest_size=8).digest(), "big") | 1
