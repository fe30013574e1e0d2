"""One session of the server: a participant of its own, whatever its client does meanwhile.

It runs for real, in no virtual time, until it waits for its client, for another session or the clock, or is held. A session
whose client has gone goes on in the same way, and may still commit.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from .clock import from_unix_us
from .server import Blocked, Event, Gone, Held, Ready
from .server_end import ServerEnd
from .stops import Stop, Where
from .wire import TERMINATE, Question, is_finished

if TYPE_CHECKING:
    from .catches import Catch
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
        self.asked = ""  # what its client asked for last,
        self.begun = ""  # and when it was in no transaction
        self.commits = False
        self._sessions = sessions
        self._backend = end.backend
        self._unsent = bytearray()
        self._stop: Stop | None = None  # where this exchange is to stand still,
        self._stands = False  # and whether it does
        self._withheld = b""  # its reply, meanwhile
        self._queued = False  # it will go on, or a timer of its will fire, when the scheduler lets it
        self._closed = False
        self._finished = True  # the last that it said was that it is ready for a query,
        self.idle = True  # and in no transaction
        self._signals = self._backend.signals
        self.failed = False  # its transaction has failed: it takes nothing but a rollback
        self._catch: Catch | None = None  # at which it is to be stopped in this exchange
        self._stopped: list[Callable[[], None]] | None = None  # between two: what its client does meanwhile
        self._waiters: list[asyncio.Future[None]] = []
        self._due: int | None = None
        self.events = sessions.loop.chain(f"session {number}")

    @property
    def orderly(self) -> bool:
        """Whether it waits for a new statement."""
        return isinstance(self.standing, Ready) and self._finished and not self._closed

    # Its client

    def receive(self, chunk: bytes, question: Question, *, last: bool = False) -> None:
        """Bytes of its client have arrived, which say `question`; `last`: and with them the end."""
        again = partial(self.receive, chunk, question, last=last)
        if isinstance(self.standing, Gone) or self._waits_to(again):
            return
        if last:
            self._part()
            if chunk == TERMINATE:
                self._end_or_finish()
                return
        self._unsent += chunk
        if self._stands:
            return
        if isinstance(self.standing, Ready):
            self._sessions.counts.exchanges += 1
            self._begin(question)
            self._finished = False
            self._arm()
            self._proceed_unless("before")
        elif self.link is None:
            self._close()
        else:
            self.end.write(self._unsent)

    def lose_client(self) -> None:
        """The end of its client's stream has arrived: it reads the rest, finishes what it is doing, and ends."""
        if self.link is None or isinstance(self.standing, Gone) or self._waits_to(self.lose_client):
            return
        self._part()
        self._end_or_finish()

    def _waits_to(self, action: Callable[[], None]) -> bool:
        """Whether it is stopped, or the server stands still; then `action` follows."""
        if self._stopped is not None:
            self._stopped.append(action)
            return True
        return self._sessions.gate.keeps(action)

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
        elif self._stands:
            self._unsent.clear()  # a request that had not arrived yet never does

    def _close(self) -> None:
        self.end.write(self._unsent)
        if not self._unsent and not self._closed:
            self._closed = True
            self.end.hang_up()

    # Running

    def _begin(self, question: Question) -> None:
        """An exchange begins."""
        self.asked, self.commits = question.text, question.commits
        if self.idle:
            self.begun = question.text
        if self._finished:
            for imposed in self._sessions.imposed.get(self.process, ()):
                imposed.apply(self)

    def _arm(self) -> None:
        """Perhaps stop this exchange, at one of its inner points or around it."""
        self._stop = self._sessions.stops.begin(self, self._backend.points)
        for catch in self._sessions.catches:
            if catch.at is not None and catch.fits(self):
                self._catch = catch
                self._backend.arm(catch.nth, kinds=catch.at)
                return
        point = self._sessions.draw_hold()
        if self._stop is not None:
            point = self._stop.point
        if point:
            self._backend.arm(point)

    def _proceed_unless(self, where: Where) -> None:
        if self._stop is None or self._stop.where != where:
            self._proceed()
        else:
            self._stand()

    def _stand(self) -> None:
        assert self._stop is not None
        self._stands = True
        self.note(f"stands still {self._stop.where} its exchange")
        self._stop.reached(self)

    def go_on(self) -> None:
        """End a stop: the request is handled, the statement goes on, or the reply leaves; unless its client has died."""
        if not self._stands or self._stop is None:
            return
        self._stands, where, self._stop = False, self._stop.where, None
        if isinstance(self.standing, Gone):
            return
        if where == "inside":
            self.let_go()
        elif where == "before":
            if self.link is not None and not self.link.dead:
                self._queue(self._proceed)
            else:
                self._unsent.clear()
        elif self._withheld and self.link is not None:
            self.link.reply(self._withheld)
        self._withheld = b""

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
            if isinstance(event, Gone) and self._backend.panicked:
                self._sessions.panicked()
                return
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
            self.idle, self.failed = said.endswith(b"I"), said.endswith(b"E")
        if self._finished and isinstance(event, Ready):
            said = self._ended(said)
        if said and self.link is not None:
            self.link.reply(said)
        counts = self._sessions.counts
        match event:
            case Ready():
                self._backend.arm(None)
                self._catch = None
                self._be_caught_between()
            case Blocked():
                counts.lock_waits += 1
                self.note(f"waits: {event.wait_class.name} {event.wait_event}")
                self._sessions.say_who_blocks(self)
            case Held():
                counts.holds += 1
                self.note(f"held at {event.point.name}")
                self._held()
            case Gone():
                self.note("is gone")
                if self.link is not None:
                    self.link.hung_up()
                self._sessions.remove(self)
                for waiter in self._waiters:
                    if not waiter.done():
                        waiter.set_result(None)
        self.look_at_timers()

    def _ended(self, said: bytes) -> bytes:
        """An exchange has ended; what of the reply may leave now."""
        self._sessions.stops.end(self, self._backend.points)
        if self._stop is None or self._stands or self._stop.where != "after":
            return said
        self._withheld = said
        self._stand()
        return b""

    def _held(self) -> None:
        caught, self._catch = self._catch, None
        if caught is not None and caught.take(self):
            return
        if self._stop is None or self._stop.where != "inside":
            self._sessions.let_go_later(self)
        elif not self._stands:
            self._stand()

    def look_at_timers(self) -> None:
        """When PostgreSQL next wants to be told the time."""
        backend, until = self._backend, None
        if isinstance(self.standing, Blocked):
            until = backend.wait_until_us
        timer = None if isinstance(self.standing, Gone) else backend.timer_us
        times = [at for at in (timer, until) if at is not None]
        self._due = from_unix_us(min(times) - self._sessions.ahead_us) if times else None
        self._expect()

    def _expect(self) -> None:
        """Say when it wants to be told the time; while it is queued to act it looks by itself."""
        if self._due is None or self._queued:
            self._sessions.timed.pop(self, None)
        else:
            self._sessions.timed[self] = self._due

    def _be_caught_between(self) -> None:
        """Perhaps somebody waits for a session that is idle in a transaction."""
        if self._finished and not self.idle and not self.failed and self.link is not None:
            for catch in self._sessions.catches:
                if catch.at is None and catch.fits(self) and catch.take(self):
                    self._stopped = []
                    return

    # What others do to it

    def set(self, settings: Mapping[str, str], *, local: bool = False) -> bool:
        """Change settings of it; `local`: until its transaction ends. False where its transaction has failed already."""
        if self.failed or not self.orderly:
            return False
        self._sessions.set_now()
        done = all(self.end.set(name, value, local=local) for name, value in settings.items())
        self.note(f"has {', '.join(f'{name} = {value}' for name, value in settings.items())}")
        self.look_at_timers()
        return done

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
            self._expect()
            self.events.call_soon(self._act, action)

    def _act(self, action: Callable[[], None]) -> None:
        if self._sessions.gate.keeps(self._act, action):
            return
        self._queued = False
        self._expect()
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
        """End a hold, or what was caught between two exchanges."""
        if isinstance(self.standing, Held):
            self._queue(self._go_on)
        if self._stopped is not None:
            actions, self._stopped = self._stopped, None
            for action in actions:
                self.events.call_soon(action)

    def time_has_come(self) -> None:
        self._queue(self._fire)

    def _fire(self) -> None:
        """One of PostgreSQL's timers, or the end of a timed wait."""
        sessions, backend = self._sessions, self._backend
        sessions.set_now()
        sessions.counts.timers += 1
        timer = backend.timer_us
        if timer is None or from_unix_us(timer - self._sessions.ahead_us) > sessions.loop.clock.now:
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
        """Whether it is in a transaction that was begun and not ended."""
        return not self.idle

    @property
    def at_work(self) -> bool:
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
