"""A libpq connection whose backend is under control, driven by hand one statement at a time.

The cell's own statements go through it, and so do tests; programs under simulation have their own connections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import OperationalError, pq
from psycopg.pq.abc import PGconn, PGresult

from duress.simulator.server.backend import Backend
from duress.simulator.server.errors import HarnessError
from duress.simulator.server.events import Event, Ready

LOST: Final = "lost"
_ROWS: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.SINGLE_TUPLE)
_ERRORS: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)


@dataclass(frozen=True, slots=True)
class Reply:
    """What one statement was answered with."""

    rows: tuple[tuple[str | None, ...], ...] = ()
    status: str = ""  # "UPDATE 1"
    sqlstate: str = ""  # of an error; "lost" when the connection broke
    message: str = ""


Outcome = tuple[Reply, ...]


def connect(dsn: str) -> PGconn:
    """A connection in real time; raises HarnessError with libpq's words."""
    pgconn = pq.PGconn.connect(dsn.encode())
    if pgconn.status != pq.ConnStatus.OK:
        raise HarnessError(f"cannot connect to {dsn}: {pgconn.error_message.decode(errors='replace').strip()}")
    return pgconn


class Session:
    """One connection and its backend."""

    def __init__(self, pgconn: PGconn, backend: Backend) -> None:
        self.pgconn = pgconn
        self.backend = backend
        self.busy = False
        self.closed = False
        self._replies: list[Reply] = []

    def send(self, statement: str) -> Outcome | Event:
        """Send a statement and follow it: its replies, or Blocked, Held or Gone. Several in one string are one exchange."""
        self.busy = True
        self._replies = []
        try:
            self.pgconn.send_query(statement.encode())
        except OperationalError as error:
            self._lost(str(error))
            return tuple(self._replies)
        return self.proceed()

    def proceed(self) -> Outcome | Event:
        """Follow the statement under way on, after a grant."""
        while True:
            event = self.backend.wait(self.pgconn.socket)
            if not isinstance(event, Ready):
                return event if not self._is_last_word(event) else tuple(self._replies)
            if self._take():
                return tuple(self._replies)

    def grant(self, timed_out: bool = False) -> Outcome | Event:
        """Let the backend go on, and follow it."""
        self.backend.grant(timed_out)
        return self.proceed()

    def run(self, statement: str) -> Outcome:
        """A statement that nothing may stop; raises HarnessError if something does, or if it fails."""
        outcome = self.send(statement)
        if not isinstance(outcome, tuple):
            raise HarnessError(
                f"{statement!r} was to run to its end, but its backend is stopped: {self.backend.describe()}"
            )
        for reply in outcome:
            if reply.sqlstate:
                raise HarnessError(f"{statement!r} failed: {reply.message} ({reply.sqlstate})")
        return outcome

    def notifications(self) -> Sequence[tuple[str, str]]:
        """Channel and payload of what has been notified; the backend must have settled."""
        self.pgconn.consume_input()
        found = []
        while notice := self.pgconn.notifies():
            found.append((notice.relname.decode(), notice.extra.decode()))
        return found

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, or failed and not yet ended."""
        return self.pgconn.transaction_status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)

    @property
    def in_failed_transaction(self) -> bool:
        """Whether all but ROLLBACK would be refused."""
        return self.pgconn.transaction_status == pq.TransactionStatus.INERROR

    def close(self) -> None:
        """Close the connection and wait until the server has seen it go; a backend that is stopped is terminated."""
        if not self.closed:
            self.closed = True
            self.pgconn.finish()
            if self.backend.idle:
                self.backend.wait_gone()
            self.backend.end()

    def _is_last_word(self, event: Event) -> bool:
        """After Gone: read what the server said before it went."""
        if self.backend.state != "gone":
            return False
        self._take()
        if self.busy:
            self._lost("the server closed the connection")
        return True

    def _take(self) -> bool:
        """Read what has come; whether the exchange is over."""
        try:
            self.pgconn.consume_input()
        except OperationalError as error:
            self._lost(str(error))
            return True
        while not self.pgconn.is_busy():
            result = self.pgconn.get_result()
            if result is None:
                self.busy = False
                return True
            reply = _reply(result)
            if reply.sqlstate == LOST:
                self._lost(reply.message)
            else:
                self._replies.append(reply)
            if self.pgconn.status != pq.ConnStatus.OK:
                self.busy = False
                return True
        return False

    def _lost(self, message: str) -> None:
        """The connection is gone: an answer of its own, unless the server has said why."""
        self.busy = False
        if not any(reply.sqlstate for reply in self._replies):
            self._replies.append(Reply(sqlstate=LOST, message=message.strip()))


def _reply(result: PGresult) -> Reply:
    if result.status in _ERRORS:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
        return Reply(sqlstate=state.decode() if state else LOST, message=message.decode(errors="replace").strip())
    rows: tuple[tuple[str | None, ...], ...] = ()
    if result.status in _ROWS:
        rows = tuple(
            tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
            for row in range(result.ntuples)
        )
    return Reply(rows, (result.command_status or b"").decode())


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
