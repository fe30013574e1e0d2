"""One session of the server: a participant of its own, whatever its client does meanwhile.

It runs for real, in no virtual time, until it waits for its client, for another session or the clock, or is held. A session
whose client has gone goes on in the same way, and may still commit.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from .clock import EPOCH_NS
from .server import Blocked, Event, Gone, Held, Ready
from .server_end import ServerEnd
from .wire import TERMINATE, is_finished

if TYPE_CHECKING:
    from .link import Link
    from .sessions import Sessions


class Session:
    """One session. `standing` is what it was doing when it last stopped."""

    def __init__(self, sessions: "Sessions", link: "Link", end: ServerEnd, number: int) -> None:
        self.number = number
        self.process = link.process
        self.end = end
        self.standing: Event = Ready()
        self.link: Link | None = link
        self.latest = ""
        self._sessions = sessions
        self._backend = end.backend
        self._unsent = bytearray()
        self._queued = False  # it will go on, or a timer of its will fire, when the scheduler lets it
        self._closed = False
        self._finished = True  # the last that it said was that it is ready for a query,
        self.idle = True  # and in no transaction
        self._signals = self._backend.signals
        self._waiters: list[asyncio.Future[None]] = []
        self._due: int | None = None
        self.events = sessions.loop.chain(f"session {number}")

    @property
    def orderly(self) -> bool:
        """Whether it waits for a new statement."""
        return isinstance(self.standing, Ready) and self._finished and not self._closed

    # Its client

    def receive(self, chunk: bytes, *, last: bool = False) -> None:
        """Bytes of its client have arrived; `last`: and with them the end."""
        if isinstance(self.standing, Gone) or self._sessions.gate.keeps(partial(self.receive, chunk, last=last)):
            return
        if last:
            self._part()
            if chunk == TERMINATE:
                self._end_or_finish()
                return
        self._unsent += chunk
        if isinstance(self.standing, Ready):
            self._sessions.counts.exchanges += 1
            self._finished = False
            self._arm()
            self._proceed()
        elif self.link is None:
            self._close()
        else:
            self.end.write(self._unsent)

    def lose_client(self) -> None:
        """The end of its client's stream has arrived: it reads the rest, finishes what it is doing, and ends."""
        if self.link is None or isinstance(self.standing, Gone) or self._sessions.gate.keeps(self.lose_client):
            return
        self._part()
        self._end_or_finish()

    def _end_or_finish(self) -> None:
        """Nothing more will come from its client."""
        if self._sessions.leave(self):
            self.stopped(Gone(), b"")
            self._sessions.look_around()
            return
        self._close()
        if isinstance(self.standing, Ready):
            self._proceed()

    def _part(self) -> None:
        self.link = None
        if not isinstance(self.standing, Ready):
            self._sessions.counts.orphans += 1
            self.note("has lost its client")

    def _close(self) -> None:
        self.end.write(self._unsent)
        if not self._unsent and not self._closed:
            self._closed = True
            self.end.hang_up()

    # Running

    def _arm(self) -> None:
        """Perhaps stop this exchange at one of its inner points."""
        point = self._sessions.draw_hold()
        if point:
            self._backend.arm(point)

    def _proceed(self) -> None:
        """Run for real until it stops. Everything that it says on the way is one reply."""
        sessions = self._sessions
        sessions.set_now()
        said = b""
        while True:
            if self._unsent:
                self.end.write(self._unsent)
            if self.link is None and not self._closed:
                self._close()
            event = self._backend.wait(-1 if self._closed else self.end.fileno(), bool(self._unsent))
            said += self.end.read()
            if not isinstance(event, Ready):
                break
            if not self._unsent and not event.sending and not event.writable:
                break
        self.stopped(event, said)
        sessions.look_around()

    def stopped(self, event: Event, said: bytes) -> None:
        self.standing = event
        if said:
            self._finished = is_finished(said)
            self.idle = said.endswith(b"I")
        if said and self.link is not None:
            self.link.reply(said)
        counts = self._sessions.counts
        match event:
            case Ready():
                self._backend.arm(None)
            case Blocked():
                counts.lock_waits += 1
                self.note(f"waits: {event.wait_class.name} {event.wait_event}")
            case Held():
                counts.holds += 1
                self.note(f"held at {event.point.name}")
                self._sessions.let_go_later(self)
            case Gone():
                self.note("is gone")
                if self.link is not None:
                    self.link.hung_up()
                self._sessions.remove(self)
                for waiter in self._waiters:
                    if not waiter.done():
                        waiter.set_result(None)
        self.look_at_timers()

    def look_at_timers(self) -> None:
        """When PostgreSQL next wants to be told the time."""
        backend, until = self._backend, None
        if isinstance(self.standing, Blocked):
            until = self.standing.until_us
        timer = None if isinstance(self.standing, Gone) else backend.timer_us
        times = [at for at in (timer, until) if at is not None]
        self._due = _nanoseconds(min(times)) if times else None

    # What others do to it

    def look(self) -> None:
        """Something may have been done to it: take in signals, and queue it if it was woken."""
        signals = self._backend.signals
        if signals != self._signals:
            self._signals = signals
            self._take_signals()
        if isinstance(self.standing, Blocked) and self._backend.woken:
            self._queue(self._go_on)

    def _take_signals(self) -> None:
        """NOTIFY, cancel, terminate: wait until an idle one has dealt with them. Its bytes travel to its client."""
        if isinstance(self.standing, Gone):
            return
        self._backend.settle()
        if isinstance(self.standing, Ready):
            gone = self._backend.state == "gone"
            said = self.end.read()
            if gone or said:
                self.stopped(Gone() if gone else self.standing, said)
            else:
                self.look_at_timers()

    def _queue(self, action: Callable[[], None]) -> None:
        if not self._queued:
            self._queued = True
            self.events.call_soon(self._act, action)

    def _act(self, action: Callable[[], None]) -> None:
        if self._sessions.gate.keeps(self._act, action):
            return
        self._queued = False
        if not isinstance(self.standing, Gone):
            action()

    def _go_on(self) -> None:
        """It was woken, or let go."""
        if isinstance(self.standing, Held) or (isinstance(self.standing, Blocked) and self._backend.woken):
            self.note("goes on")
            self._sessions.set_now()
            self._backend.grant()
            self._proceed()

    def let_go(self) -> None:
        """End a hold."""
        if isinstance(self.standing, Held):
            self._queue(self._go_on)

    # The clock

    @property
    def due(self) -> int | None:
        """The virtual nanosecond of its next timer; None while it is queued to act anyway."""
        return None if self._queued else self._due

    def time_has_come(self) -> None:
        self._queue(self._fire)

    def _fire(self) -> None:
        """One of PostgreSQL's timers, or the end of a timed wait."""
        sessions, backend = self._sessions, self._backend
        sessions.set_now()
        sessions.counts.timers += 1
        timer = backend.timer_us
        if timer is None or _nanoseconds(timer) > sessions.loop.clock.now:
            self._time_out()
            return
        self.note("timer")
        backend.deliver_timer()
        self._signals = backend.signals
        match self.standing:
            case Blocked():
                backend.grant()
                self._proceed()
            case Ready():
                self._take_signals()
                sessions.look_around()
        self.look_at_timers()

    def _time_out(self) -> None:
        """A timed wait is over, unless somebody woke it first."""
        if isinstance(self.standing, Blocked) and not self._backend.woken:
            self.note("wait times out")
            self._backend.grant(timed_out=True)
            self._proceed()
        else:
            self._go_on()

    def cancel(self) -> None:
        """A cancel request has arrived."""
        if not isinstance(self.standing, Gone) and not self._sessions.gate.keeps(self.cancel):
            self.note("cancel request")
            self._sessions.set_now()
            self._backend.cancel()
            self.look()
            self._sessions.look_around()

    # Faults

    @property
    def in_transaction(self) -> bool:
        """Whether it is in a transaction, or in the middle of a statement."""
        return not (isinstance(self.standing, Ready) and self.idle)

    async def gone(self) -> None:
        """Wait until it has ended."""
        if not isinstance(self.standing, Gone):
            waiter: asyncio.Future[None] = self._sessions.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def terminate(self) -> None:
        """SIGTERM: it ends when it next looks."""
        if not isinstance(self.standing, Gone):
            self._sessions.set_now()
            self._backend.terminate()
            self.look()

    def end_now(self) -> None:
        """SIGTERM, and whatever it waits for, or is held at, is over."""
        if isinstance(self.standing, Gone):
            return
        self._backend.arm(None)
        self._backend.terminate()
        while not isinstance(event := self._backend.wait(-1), Gone):
            self._backend.grant()
        self.stopped(event, self.end.read())

    def note(self, text: str) -> None:
        self._sessions.loop.note("", "server", f"session {self.number} {text}")


def _nanoseconds(unix_us: int) -> int:
    """On the run's clock."""
    return unix_us * 1_000 - EPOCH_NS
