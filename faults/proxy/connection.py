"""One connection of a worker: its two ends, what passes between them, and where it breaks.

While no rule is armed, bytes are passed on first and looked at afterwards. With a rule armed, messages are passed on
whole, each after it was judged.
"""

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from duress.faults.proxy.end import End
from duress.faults.proxy.exchange import Answer, Exchange
from duress.faults.proxy.leg import Leg, reset
from duress.faults.proxy.messages import FLUSH, Direction, Piece, Reader, message
from duress.faults.proxy.orders import CutCommit, Ending, Strike
from duress.faults.proxy.rules import Armed
from duress.faults.proxy.startup import Startup

if TYPE_CHECKING:
    from duress.faults.proxy.port import Port

_READY, _COMPLETE, _EXECUTE = b"ZCE"
_BEGINS = frozenset(b"QPBEF")  # messages with which an exchange begins
_Judged = tuple[Piece, Answer]


class Connection:
    """Carries bytes both ways, and does what the rules of its port say."""

    def __init__(self, port: "Port", number: int, peer: int) -> None:
        self.number = number
        self.peer = peer  # the port of the worker's end
        self.port = port
        loop = asyncio.get_running_loop()
        self.to_server = Leg(loop, port.entropy)
        self.to_worker = Leg(loop, port.entropy)
        self.worker = End(self, "to-server")
        self.server = End(self, "to-worker")
        self.exchange = Exchange()
        self._loop = loop
        self._startup: Startup | None = Startup()
        self._opaque = False  # a cancel request, or no protocol that we know: passed on as it comes
        self._over = False  # the worker has been told that it is over, or is about to be
        self._draining = False  # nobody reads the server's replies any more, but it is to finish
        self._requests = Reader("to-server")
        self._replies = Reader("to-worker")
        self._asked: deque[Piece] = deque()
        self._answered: deque[_Judged] = deque()
        self._held: dict[Direction, int] = {}  # → the rule that holds it until it is withdrawn; 0: for a time
        self._excused: set[int] = set()  # ids of pieces that were held long enough
        self._requests_end: Ending | None = None  # what comes behind what waits
        self._replies_end: Ending | None = None
        self._flushed = False
        self._counted = False  # the commit that the next ReadyForQuery confirms
        self._cut_at_ready: Armed | None = None
        self._preceded: Piece | None = None  # the message before which statements of ours run, or ran last
        self._preceding: set[int] = set()  # the rules of which they are
        self._once: set[int] = set()  # those that have been obeyed on this connection
        self._now = 0.0  # when the bytes have come that are looked at
        self._lost = 0

    # The ends

    def met(self, end: End, transport: asyncio.Transport) -> None:
        """An end is connected."""
        towards, back = (self.to_server, self.to_worker) if end is self.worker else (self.to_worker, self.to_server)
        towards.come_from(transport)
        back.go_to(transport)

    def hung_up(self, end: End, how: Ending) -> None:
        """A side has closed or reset its end. A server that has closed will not read either."""
        if end is self.server:
            self._replies_end = how
            self._advance_replies()
            self._over = True
        elif not self._over:
            self._requests_end = how
            self._advance_requests()
        if self.worker.hung_up and self.server.hung_up:
            self._close_when_empty()

    def lost(self, end: End) -> None:
        """An end is gone for good."""
        self._lost += 1
        other = self.server if end is self.worker else self.worker
        if end is self.worker:
            self.to_worker.abandon()
        if self._lost == 2 or other.transport is None:
            self.port.forget(self)

    def filled(self, end: End, *, on: bool) -> None:
        """An end cannot take more for now: its source has to wait."""
        (self.to_worker if end is self.worker else self.to_server).pause("sink", on)

    def _close_when_empty(self) -> None:
        for leg in (self.to_server, self.to_worker):
            if leg.waiting:
                self._loop.call_later(0.01, self._close_when_empty)
                return
        for end in (self.worker, self.server):
            if end.transport is not None:
                end.transport.close()

    # What passes

    def from_worker(self, data: bytes) -> None:
        """Bytes have come from the worker."""
        self._now = time.monotonic()
        if self._over:
            if self.worker.transport is not None and not self.to_worker.waiting:
                reset(self.worker.transport)  # as a kernel does with what comes for a closed socket
        elif self._opaque:
            self.to_server.send(data)
        elif self._startup is not None:
            self._hear_startup(data)
        elif self.port.rules or self._asked or self._requests.behind:
            self._asked.extend(self._requests.feed(data, passed=False, rows_alone=self.port.rules.rows_alone))
            self._advance_requests()
        else:
            self.to_server.send(data)
            for piece in self._requests.feed(data, passed=True):
                self._ask(piece)

    def from_server(self, data: bytes) -> None:
        """Bytes have come from the server."""
        self._now = time.monotonic()
        if self._opaque or self._startup is not None:
            self.to_worker.send(data)
        elif self.port.rules or self._answered or self._draining or self._replies.behind or self._preceded:
            for piece in self._replies.feed(data, passed=False, rows_alone=self.port.rules.rows_alone):
                answer = self._answer(piece)
                if answer.request is None or not answer.request.ours:
                    self._answered.append((piece, answer))
            self._advance_replies()
            self._advance_requests()
        else:
            self.to_worker.send(data)
            for piece in self._replies.feed(data, passed=True):
                self._answer(piece)
            if self._asked:
                self._advance_requests()

    def rules_changed(self) -> None:
        """A rule was armed or withdrawn."""
        for direction, rule in list(self._held.items()):
            if rule and not self.port.rules.has(rule):
                self._let_go(direction)
        self._advance_replies()
        self._advance_requests()

    def _hear_startup(self, data: bytes) -> None:
        assert self._startup is not None
        heard = self._startup.hear(data)
        if heard.reply:
            self.to_worker.send(heard.reply)
        if heard.refused:
            self.cut("fin")
        elif heard.done:
            self._startup = None
            self._opaque = heard.opaque
            self.to_server.send(heard.forward)
            if heard.rest:
                self.from_worker(heard.rest)

    def _ask(self, piece: Piece) -> None:
        """The server gets, or has got, this."""
        if piece.body is None:
            return
        try:
            self.exchange.ask(piece.kind, piece.body)
            sql = self.exchange.sql_of(piece.kind, piece.body)
        except IndexError:  # not PostgreSQL's protocol: out of the way
            self._pass_unseen()
            return
        self.port.log.request(self._now, self.port.worker, self.number, piece, sql)

    def _answer(self, piece: Piece) -> Answer:
        if piece.body is None:
            return Answer()
        self.port.log.reply(self._now, self.port.worker, self.number, piece)
        return self.exchange.answer(piece.kind, piece.body)

    def _pass_unseen(self) -> None:
        self._opaque = True
        self.to_server.send(b"".join(piece.data for piece in self._asked) + self._requests.flush())
        self._asked.clear()
        self._pass_on_answers()

    def _pass_on_answers(self) -> None:
        """Whatever the server has said goes to the worker now."""
        if not self._draining:
            self.to_worker.send(b"".join(piece.data for piece, _ in self._answered) + self._replies.flush())
        self._answered.clear()

    # Requests, one at a time

    def _advance_requests(self) -> None:
        """Pass on what may go."""
        while self._asked and not self._over and "to-server" not in self._held:
            piece = self._asked[0]
            if piece.body is not None and id(piece) not in self._excused:
                if not self._judge_request(piece, piece.body):
                    return
                if not self._asked or self._asked[0] is not piece:
                    continue  # a rule has dealt with it
            self._asked.popleft()
            self._excused.discard(id(piece))
            self._flushed, self._preceded = False, None
            self._ask(piece)
            self.to_server.send(piece.data)
        if not self._asked and not self._over:
            if self._requests_end is not None or not self.port.rules:
                self.to_server.send(self._requests.flush())
            if self._requests_end is not None:
                self.to_server.end(self._requests_end)

    def _judge_request(self, piece: Piece, body: bytes) -> bool:
        """Whether to go on: False to wait for replies, or because it is held or over."""
        if self.exchange.interjected or self._interject(piece, body):
            return False
        cuts = list(self.port.rules.commit_cuts(at_request=True))
        if cuts and self.exchange.may_commit(piece.kind, body):
            if not self.exchange.drained:
                if not self._flushed:  # what was asked without a Sync may be waiting in the server
                    self._flushed = True
                    self.to_server.send(FLUSH)
                return False
            how = self.exchange.will_commit(piece.kind, body)
            for armed, rule in cuts:
                if (how == "explicit" or (how == "implicit" and not rule.explicit_only)) and armed.due():
                    self._cut_at_request(armed, rule, piece)
                    return False
        struck = self.port.rules.strike("to-server", piece.kind, self.exchange.sql_of(piece.kind, body))
        return struck is None or self._strike(*struck, "to-server", piece)

    def _interject(self, piece: Piece, body: bytes) -> bool:
        """Run statements of ours before an exchange that begins with this message, each once; whether there is one."""
        if not self.exchange.between or piece.kind not in _BEGINS:
            return False
        if self._preceded is not piece:
            self._preceded, self._preceding = piece, set()
        for armed, rule in self.port.rules.interjections():
            sql = self.exchange.sql_of(piece.kind, body)
            done = self._preceding | (self._once if rule.each_connection else set())
            if armed.number in done or not armed.precedes(sql, self.exchange.status) or not armed.due():
                continue
            self._preceding.add(armed.number)
            self._once.add(armed.number)
            if rule.pause:
                self._hold_for("to-server", rule.pause)
            ours = rule.sql.encode()
            self.exchange.interject(ours)
            self.to_server.send(message(b"Q", ours + b"\0"))
            self.port.struck(armed, self, f"interjected {rule.sql!r}")
            return True
        return False

    def _cut_at_request(self, armed: Armed, rule: CutCommit, piece: Piece) -> None:
        if rule.point == "forwarded":
            self._ask(piece)
            self.to_server.send(piece.data + (FLUSH if piece.kind == _EXECUTE else b""))
        self.port.struck(armed, self, f"COMMIT cut {rule.point}")
        self.cut(rule.ending or "rst", finish=rule.point == "forwarded")

    # Replies, one at a time

    def _advance_replies(self) -> None:
        while self._answered and "to-worker" not in self._held:
            piece, answer = self._answered[0]
            if self._draining:
                self._answered.clear()
                break
            if piece.body is not None and id(piece) not in self._excused:
                if not self._judge_reply(piece, answer):
                    return
                if not self._answered or self._answered[0][0] is not piece:
                    continue
            self._answered.popleft()
            self._excused.discard(id(piece))
            self.to_worker.send(piece.data)
        if self._draining and self.exchange.drained:
            self._draining = False
            self.to_server.end("fin")
        if not self._answered and not self._over:
            waits = self.port.rules or self.exchange.interjected  # a part of an answer to us is nothing for the worker
            if self._replies_end is not None or not waits:
                self.to_worker.send(self._replies.flush())
            if self._replies_end is not None:
                self.to_worker.end(self._replies_end)

    def _judge_reply(self, piece: Piece, answer: Answer) -> bool:
        """As with requests."""
        if piece.kind == _READY and self._cut_at_ready is not None:
            self.port.struck(self._cut_at_ready, self, "COMMIT cut before-ReadyForQuery")
            return self._over_by(self._cut_at_ready)
        cuts = list(self.port.rules.commit_cuts(at_request=False))
        if cuts:
            confirms = [self._confirms(piece, answer, rule) for _, rule in cuts]
            if None in confirms:
                return False
            for (armed, rule), confirmed in zip(cuts, confirms, strict=True):
                self._counted = self._counted or bool(confirmed)
                if confirmed and armed.due():
                    return self._cut_at_reply(armed, rule, piece)
            if piece.kind == _READY or answer.committed:
                self._counted = False
        struck = self.port.rules.strike("to-worker", piece.kind, answer.request.sql if answer.request else b"")
        return struck is None or self._strike(*struck, "to-worker", piece)

    def _confirms(self, piece: Piece, answer: Answer, rule: CutCommit) -> bool | None:
        """Whether a message confirms a commit that the rule may cut here; None: more has to come before that is known.

        Without a COMMIT it is the ReadyForQuery that confirms; then the cut begins at the CommandComplete before it, if
        that need not be given to the worker earlier.
        """
        if piece.kind == _COMPLETE and answer.committed:
            return True
        if rule.explicit_only:
            return False
        if piece.kind == _READY:
            return answer.committed and not self._counted and rule.point != "mid-CommandComplete"
        if not answer.wrote:
            return False
        for later, its in list(self._answered)[1:]:
            if later.kind == _READY:
                return its.committed
            if its.wrote or its.committed:
                return False
        return None if self.exchange.ready_is_coming and self._replies_end is None else False

    def _cut_at_reply(self, armed: Armed, rule: CutCommit, piece: Piece) -> bool:
        if rule.point == "before-ReadyForQuery" and piece.kind != _READY:
            self._cut_at_ready = armed
            return True
        if rule.point == "mid-CommandComplete":
            self.to_worker.send(piece.data[: len(piece.data) // 2])
        self.port.struck(armed, self, f"COMMIT cut {rule.point}")
        return self._over_by(armed)

    def _over_by(self, armed: Armed) -> bool:
        assert isinstance(armed.rule, CutCommit)
        usual: Ending = "rst" if armed.rule.point == "applied-reply-held" else "fin"
        self.cut(armed.rule.ending or usual)
        return False

    # Faults

    def _strike(self, armed: Armed, rule: Strike, direction: Direction, piece: Piece) -> bool:
        """Do to a message what the rule says; whether to go on."""
        leg = self.to_server if direction == "to-server" else self.to_worker
        self.port.struck(armed, self, f"{rule.deed} {direction}")
        if rule.deed == "drop":
            (self._asked if direction == "to-server" else self._answered).popleft()
            return True
        if rule.deed in ("hold", "delay"):
            self._excused.add(id(piece))
            if rule.seconds is not None:
                self._hold_for(direction, rule.seconds)
            else:
                self._held[direction] = armed.number
                leg.pause("held", True)
            return False
        if rule.deed == "cut-inside":
            leg.send(piece.data[: len(piece.data) // 2])
        elif rule.deed == "cut-after":
            if direction == "to-server":
                self._ask(piece)
            leg.send(piece.data)
        self.cut(rule.ending, finish=rule.deed == "cut-after" and direction == "to-server")
        return False

    def _hold_for(self, direction: Direction, seconds: float) -> None:
        self._held[direction] = 0
        (self.to_server if direction == "to-server" else self.to_worker).pause("held", True)
        self._loop.call_later(seconds, self._let_go, direction)

    def _let_go(self, direction: Direction) -> None:
        self._held.pop(direction, None)
        (self.to_server if direction == "to-server" else self.to_worker).pause("held", False)
        if direction == "to-server":
            self._advance_requests()
        else:
            self._advance_replies()

    def cut(self, ending: Ending, *, finish: bool = False) -> None:
        """End the connection, to the worker with `ending`. `finish`: the server may do what it was asked before it is told."""
        self._over = True
        self._asked.clear()
        self._answered.clear()
        self._draining = finish and not self.exchange.drained
        self.to_worker.end(ending)
        if not self._draining:
            self.to_server.end("fin")

    def drop(self, ending: Ending) -> None:
        """The same at once, whatever is kept or on its way."""
        self._over = True
        self._asked.clear()
        self._answered.clear()
        self.to_worker.abandon(ending)
        self.to_server.abandon(ending)
