"""One connection of one process: libpq's end, two legs, and the session at the other side."""

import asyncio
import os
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg.pq import ConnStatus

from .clock import SECOND
from .life import bury
from .links import Leg
from .wire import Answer, Answers, Question, Questions, without_notifications

if TYPE_CHECKING:
    from .connection import SimConnection
    from .network import Drop, Network
    from .port import ClientEnd
    from .process import SimProcess
    from .reach import Cut
    from .session import Session
    from .sessions import Sessions


class Link:
    """Carries bytes both ways. It is a resource of its process: what becomes of it when that dies is said here."""

    def __init__(self, network: "Network", sessions: "Sessions", process: str, end: "ClientEnd", number: int) -> None:
        self.process = process
        self.number = number
        self.session: Session | None = None
        self._network = network
        self._sessions = sessions
        self._reach = network.reach(process)
        self._end = end
        self._descriptor = -1
        self._questions = Questions()
        self._answers = Answers()
        self._connection: weakref.ref[SimConnection[Any]] | None = None
        self._arrival: asyncio.Future[bool] | None = None
        self._owner: SimProcess | None = None
        self._dead = False  # the process is gone: nobody reads any more
        self._to_server = Leg(network, self._reach, held=self._reach.to_server_held)
        self._to_client = Leg(network, self._reach, held=self._reach.to_worker_held)
        network.add(self)

    # The client's side

    def watch(self, descriptor: int, owner: "SimProcess | None") -> None:
        """libpq's end has this number; the link shares the fate of `owner`."""
        self._descriptor, self._owner = descriptor, owner
        self._end.watch(descriptor)
        if owner is not None:
            owner.attach(self)

    def collect(self, *, closed: bool = False) -> None:
        """Send on its way what libpq has written; `closed` if it has closed its end as well."""
        if self._dead or self._end.ended or self._end.closed:
            return
        chunk, ended = self._end.take(end=closed)
        if chunk:
            self._forward(chunk, last=ended)
        elif ended:
            self._to_server.send(self._client_gone)
        if ended:
            self._leave()

    def _forward(self, chunk: bytes, *, last: bool) -> None:
        question = self._questions.read(chunk)
        self._note("send", question.text)
        cut = self._due(1, ("before-forward", "forwarded"), commits=True) if question.commits else None
        if cut is not None:
            self._close_end("rst")
            if cut.point == "before-forward":
                self._to_server.end()
                self._client_gone()
                return
        self._to_server.send(partial(self._arrived, chunk, question, last=last or cut is not None), len(chunk))
        self._watch_time()

    @property
    def dead(self) -> bool:
        """Its process is gone."""
        return self._dead

    def readable(self) -> bool:
        """Whether libpq would find something."""
        return self._end.readable()

    async def arrival(self, timeout: float | None) -> bool:
        """Wait until something has arrived; False if that takes longer than `timeout` s."""
        loop = self._network.loop
        self._arrival = arrival = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, _settle, arrival, False)
        self._watch_time()
        try:
            came: bool = await arrival
        finally:
            self._arrival = None
            if timer is not None:
                timer.cancel()
        return came

    def belongs_to(self, connection: "SimConnection[Any]") -> None:
        """A connection that the program loses without closing it is closed as its memory is freed."""
        self._connection = weakref.ref(connection)
        weakref.finalize(connection, self.abandon).atexit = False

    def abandon(self) -> None:
        """libpq's end is closed, or about to be, without another word to us."""
        if not self._dead and not self._end.ended and not self._end.closed:
            self._end.close("fin")
            self._to_server.send(self._client_gone)
            self._leave()

    def send_cancel(self, taken: "asyncio.Future[None] | None") -> None:
        """A cancel request sets out; `taken` is told when the server's answer is back."""
        held = (self._reach.to_server_held, self._reach.to_worker_held)
        there, back = (Leg(self._network, self._reach, held=hold) for hold in held)

        def arrived() -> None:
            if self.session is not None:
                self.session.cancel()
            if taken is not None:
                back.send(partial(_settle, taken, None))

        there.send(arrived)

    def _leave(self) -> None:
        """The client has closed it, or is no more."""
        if self._owner is not None:
            self._owner.detach(self)
        if self in self._network.links:
            self._network.links.remove(self)
        self._to_client.end()

    # The server's side

    def _arrived(self, chunk: bytes, question: Question, *, last: bool) -> None:
        if self.session is None:
            if not self._sessions.gate.keeps(partial(self._arrived, chunk, question, last=last)):
                self.session = self._sessions.open(self, chunk)
        else:
            self.session.receive(chunk, question, last=last)

    def _client_gone(self) -> None:
        if self.session is not None:
            self.session.lose_client()

    def reply(self, chunk: bytes) -> None:
        """The server has sent these bytes."""
        answer = self._answers.read(chunk)
        self._note("answer", answer.text)
        if answer.notified and (self._reach.deaf or self._reach.notifications_to_lose):
            self._reach.notifications_to_lose = max(0, self._reach.notifications_to_lose - 1)
            self._reach.traffic.notifications_lost += 1
            chunk = without_notifications(chunk)
            if not chunk:
                return
        cut = self._due(answer.committed, ("applied-reply-held", "mid-CommandComplete", "before-ReadyForQuery"))
        if cut is None:
            self._to_client.send(partial(self._deliver, chunk, answer.errors), len(chunk))
            return
        kept = _kept(cut, chunk, answer)
        self._note("fault", f"reply cut {cut.point}")
        if kept:
            self._to_client.send(partial(self._deliver, kept))
        self._to_client.send(partial(self._close_end, "fin"))
        self._to_server.end()
        self._client_gone()

    def _due(self, commits_now: int, points: tuple[str, ...], *, commits: bool = False) -> "Cut | None":
        """The first cut at one of these points that is due now; takes it off the list."""
        for cut in self._reach.cuts:
            if cut.point not in points or (commits and not cut.commits):
                continue
            cut.left -= commits_now if cut.commits else 1
            if cut.left <= 0:
                self._reach.cuts.remove(cut)
                self._reach.traffic.cuts[cut.point] += 1
                return cut
        return None

    def hung_up(self) -> None:
        """The server has closed its side."""
        self._to_client.send(partial(self._close_end, "fin"))

    def _deliver(self, chunk: bytes, errors: tuple[str, ...] = ()) -> None:
        if not self._dead:
            self._reach.traffic.errors.update(errors)
            self._end.give(chunk)
            self._wake()

    def _wake(self) -> None:
        if self._arrival is not None:
            _settle(self._arrival, True)

    def _close_end(self, how: str) -> None:
        if not self._dead and not self._end.closed:
            self._reach.traffic.lost += 1
            self._end.close("rst" if how == "rst" else "fin", self._descriptor)
            self._wake()

    # Faults

    def hold(self) -> None:
        """A partition begins."""
        for leg, held in ((self._to_server, self._reach.to_server_held), (self._to_client, self._reach.to_worker_held)):
            if held:
                leg.hold()
        self._watch_time()
        timeout = self._network.settings.server_timeout
        if timeout is not None:
            self._after(timeout, self._server_gives_up)

    def release(self) -> None:
        """A partition ends."""
        self._to_server.release()
        self._to_client.release()

    def drop(self, how: "Drop") -> None:
        """Lose the connection."""
        self._to_client.end()
        self._to_server.end()
        self._close_end(how if how != "timeout" else "rst")
        if how != "timeout":
            self._client_gone()
        elif self._network.settings.server_timeout is not None:
            self._after(self._network.settings.server_timeout, self._client_gone)

    def process_died(self) -> None:
        """The kernel sends what was written, and closes."""
        self._dead = True
        self._to_client.end()
        self._to_server.send(self._client_gone)
        self._forget()

    def host_cut_off(self) -> None:
        """Nobody tells the server."""
        self._dead = True
        self._to_client.end()
        self._to_server.end()
        if self._network.settings.server_timeout is not None:
            self._after(self._network.settings.server_timeout, self._client_gone)
        self._forget()

    def _forget(self) -> None:
        """Nothing of the process runs again. What libpq holds is kept for ever; its descriptor need not be."""
        if self in self._network.links:
            self._network.links.remove(self)
        connection = self._connection() if self._connection is not None else None
        self._end.close("fin")
        if connection is not None:
            bury(connection)
            if connection.pgconn.status == ConnStatus.OK:
                os.close(connection.pgconn.socket)

    def close(self) -> None:
        """The run is over: nobody will say anything on it any more."""
        self._dead = True
        self._end.close("fin")

    def _watch_time(self) -> None:
        """If the link is held now, the client gives up after its timeout, unless it is released before."""
        timeout = self._network.settings.client_timeout
        if timeout is not None and (self._to_server.held or self._to_client.held):
            self._after(timeout, self._client_gives_up, self._reach.holds)

    def _client_gives_up(self, holds: int) -> None:
        waits = self._arrival is not None or self._to_server.pending
        if waits and holds == self._reach.holds and not self._dead and not self._end.closed:
            self._note("fault", "the client gives up: timed out")
            self.drop("timeout")

    def _server_gives_up(self) -> None:
        if self._to_client.held:
            self._note("fault", "the server gives its client up")
            self._to_client.end()
            self._client_gone()

    def _after(self, seconds: float, action: object, *args: object) -> None:
        self._network.events.call_at(self._network.loop.clock.now + round(seconds * SECOND), action, *args)  # type: ignore[arg-type]

    def _note(self, kind: str, text: str) -> None:
        self._network.loop.note(self.process, kind, f"#{self.number} {text}")


def _settle(arrival: "asyncio.Future[Any]", came: bool | None) -> None:
    if not arrival.done():
        arrival.set_result(came)


def _kept(cut: "Cut", chunk: bytes, answer: Answer) -> bytes:
    """What still reaches the client."""
    if cut.point == "mid-CommandComplete" and answer.complete >= 0:
        return chunk[: answer.complete + 4]
    if cut.point == "before-ReadyForQuery" and answer.ready >= 0:
        return chunk[: answer.ready]
    return b""
