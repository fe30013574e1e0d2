"""Which reply answers which request of one connection, and which of them commit.

A queue of what the server still owes an answer to. After an error it skips to the Sync, as the server does, so it stays
right in a pipeline, where "the next CommandComplete" may be another's. It judges nothing it is not sure of: what does not
fit the protocol leaves the queue to be put right by the next ReadyForQuery.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from duress.faults.proxy.statements import ENDING, Statement, statements

_QUERY, _PARSE, _BIND, _DESCRIBE, _EXECUTE, _CLOSE, _SYNC, _FLUSH, _CALL = b"QPBDECSHF"
_COPY_DONE, _COPY_FAIL = b"cf"
_READY, _COMPLETE, _ERROR, _NOTICE, _NOTIFICATION, _PARAMETER = b"ZCENAS"
_EMPTY, _SUSPENDED, _COPY_IN, _COPY_BOTH = b"IsGW"
_ANSWERS: Final = {
    ord("1"): _PARSE,
    ord("2"): _BIND,
    ord("3"): _CLOSE,
    ord("T"): _DESCRIBE,
    ord("n"): _DESCRIBE,
}
_NO_REPLY: Final = frozenset(b"dHXp")
_AT_ANY_TIME: Final = frozenset((_NOTICE, _NOTIFICATION, _PARAMETER))
_ENDS_CYCLE: Final = frozenset((_QUERY, _SYNC, _CALL, 0))  # what a ReadyForQuery answers; 0: the startup
_COMMIT_TAGS: Final = frozenset((b"COMMIT", b"PREPARE TRANSACTION", b"COMMIT PREPARED"))
_OTHER: Final = Statement("other")


@dataclass(slots=True)
class Request:
    """What a client has asked and the server has not answered yet. `sql` is a query's or a portal's."""

    kind: int
    sql: bytes = b""
    done: int = 0  # of a Query: statements that are complete
    ours: bool = False  # the client has not asked it, and shall not hear the answer

    @property
    def statement(self) -> Statement:
        """The statement that runs now."""
        found = statements(self.sql)
        return found[self.done] if self.done < len(found) else _OTHER


class Answer(NamedTuple):
    """What one message of the server means. `request` is what it answers.

    `committed`: it confirms a COMMIT, or (a ReadyForQuery) what was committed without one. `wrote`: a write outside of a
    transaction block is complete, and its commit is confirmed by the ReadyForQuery only.
    """

    request: Request | None = None
    committed: bool = False
    wrote: bool = False


_NOTHING: Final = Answer()


class Exchange:
    """Follows one connection from its startup packet on."""

    def __init__(self) -> None:
        self.status = "I"  # as ReadyForQuery says it: I, T, E; between two of them by what was answered
        self._owed: deque[Request] = deque((Request(0),))
        self._texts: dict[bytes, bytes] = {}  # prepared statement → its SQL
        self._portals: dict[bytes, bytes] = {}
        self._skipping = False  # the server ignores what it gets until a Sync
        self._copying = False  # it ignores Sync and Flush until the end of COPY
        self._unconfirmed = False  # something was written outside of a transaction block
        self._between = False  # nothing has been asked since the last ReadyForQuery

    @property
    def between(self) -> bool:
        """The session is where it would take any statement: nothing is owed, and the last word was ReadyForQuery."""
        return self._between and not self._owed

    @property
    def interjected(self) -> bool:
        """A statement of ours has not been answered."""
        return any(request.ours for request in self._owed)

    @property
    def drained(self) -> bool:
        """Nothing is owed."""
        return not self._owed

    @property
    def ready_is_coming(self) -> bool:
        """A ReadyForQuery will come, whether the client says anything more or not."""
        return any(request.kind in _ENDS_CYCLE for request in self._owed)

    # The client's side

    def sql_of(self, kind: int, body: bytes) -> bytes:
        """The SQL that a message would run or parse, or the empty string."""
        if kind == _QUERY:
            return body.rstrip(b"\0")
        if kind == _PARSE:
            return body.split(b"\0", 2)[1]
        if kind == _BIND:
            return self._texts.get(body.split(b"\0", 2)[1], b"")
        if kind == _EXECUTE:
            return self._portals.get(body.split(b"\0", 1)[0], b"")
        return b""

    def may_commit(self, kind: int, body: bytes) -> bool:
        """Whether a message could commit, for all that is known while earlier ones are not answered."""
        if self._copying:
            return False
        if kind == _SYNC:
            return self._unconfirmed or any(
                one.kind == _EXECUTE and one.statement.deed in ("write", "begin", "commit", "rollback")
                for one in self._owed
            )
        if kind in (_QUERY, _EXECUTE):
            wanted = ENDING | {"write"} if kind == _QUERY else ENDING
            return any(one.deed in wanted for one in statements(self.sql_of(kind, body)))
        return False

    def will_commit(self, kind: int, body: bytes) -> Literal["explicit", "implicit"] | None:
        """How a message commits unless it fails, or None. Exact when all that was asked before has been answered."""
        if self._skipping or self._copying:
            return None
        if kind == _SYNC:
            return "implicit" if self._unconfirmed and self.status == "I" else None
        found = statements(self.sql_of(kind, body)) if kind in (_EXECUTE, _QUERY) else ()
        if kind == _EXECUTE:
            return "explicit" if found and self._ends_something(found[0], self.status, self._unconfirmed) else None
        return self._query_commits(found)

    def ask(self, kind: int, body: bytes) -> None:
        """The client's message has been passed on."""
        if kind in _NO_REPLY:
            return
        if kind in (_COPY_DONE, _COPY_FAIL):
            if not self._copying and self._owed:
                self._owed.append(Request(kind))  # sent before the server said that it is ready for a COPY
            self._copying = False
            return
        if self._skipping:
            if kind != _SYNC:
                return
            self._skipping = False
        elif kind == _SYNC and self._copying:
            return
        self._between = False
        self._owed.append(Request(kind, self.sql_of(kind, body)))
        if kind == _PARSE:
            name, sql, _ = body.split(b"\0", 2)
            self._texts[name] = sql
        elif kind == _BIND:
            self._portals[body.split(b"\0", 1)[0]] = self._owed[-1].sql
        elif kind == _CLOSE:
            (self._texts if body[:1] == b"S" else self._portals).pop(body[1:].rstrip(b"\0"), None)

    def interject(self, sql: bytes) -> None:
        """A query of ours has been sent, between two exchanges."""
        self._owed.append(Request(_QUERY, sql, ours=True))

    # The server's side

    def answer(self, kind: int, body: bytes) -> Answer:
        """The server has sent this message."""
        if kind in _AT_ANY_TIME:
            return _NOTHING
        self._drop_copy_marks()
        request = self._owed[0] if self._owed else None
        if request is None:
            return _NOTHING
        if kind == _READY:
            return self._ready(request, body)
        if kind == _ERROR:
            self._failed(request)
            return Answer(request)
        if kind in (_COMPLETE, _EMPTY, _SUSPENDED):
            return self._complete(request, kind, body)
        if kind in (_COPY_IN, _COPY_BOTH):
            self._copy_begins()
        elif _ANSWERS.get(kind) == request.kind:
            self._owed.popleft()
        return Answer(request)

    def _ready(self, request: Request, body: bytes) -> Answer:
        while self._owed:
            request = self._owed.popleft()
            if request.kind in _ENDS_CYCLE:
                break
        self.status = body.decode("latin-1")
        self._between = True
        committed = self._unconfirmed and self.status == "I"
        self._unconfirmed = self._copying = False
        return Answer(request, committed=committed)

    def _failed(self, request: Request) -> None:
        self._unconfirmed = self._copying = False
        if self.status == "T":
            self.status = "E"
        if request.kind in _ENDS_CYCLE:
            return
        while self._owed and self._owed[0].kind != _SYNC:
            self._owed.popleft()
        self._skipping = not self._owed

    def _complete(self, request: Request, kind: int, body: bytes) -> Answer:
        """A statement has ended, or pauses at the limit of its Execute."""
        statement = request.statement
        if request.kind == _QUERY:
            request.done += 1
        elif request.kind == _EXECUTE:
            self._owed.popleft()
        if kind != _COMPLETE:
            return Answer(request)
        tag = body.rstrip(b"\0")
        ends = self._ends_something(statement, self.status, self._unconfirmed)
        committed = tag in _COMMIT_TAGS and ends
        wrote = statement.deed == "write" and self.status == "I"
        self._unconfirmed = self._unconfirmed or wrote
        if statement.deed == "begin":
            self.status, self._unconfirmed = "T", False
        elif statement.deed in ("commit", "prepare", "rollback") and not statement.savepoint:
            self.status, self._unconfirmed = "T" if statement.chain else "I", False
        elif statement.savepoint and self.status == "E":
            self.status = "T"
        return Answer(request, committed=committed, wrote=wrote)

    def _copy_begins(self) -> None:
        """The server reads the client's rows now, and no Sync until their end."""
        ended, kept = False, []
        for one in self._owed:
            if not ended and one.kind in (_COPY_DONE, _COPY_FAIL):
                ended = True
            elif ended or one.kind != _SYNC:
                kept.append(one)
        self._owed = deque(kept)
        self._copying = not ended

    def _drop_copy_marks(self) -> None:
        while self._owed and self._owed[0].kind in (_COPY_DONE, _COPY_FAIL):
            self._owed.popleft()

    @staticmethod
    def _ends_something(statement: Statement, status: str, unconfirmed: bool) -> bool:
        """Whether a statement makes earlier work durable in a session of this status."""
        if statement.deed == "commit-prepared":
            return status == "I"
        if statement.deed == "prepare":
            return status == "T"
        return statement.deed == "commit" and (status == "T" or (status == "I" and unconfirmed))

    def _query_commits(self, found: tuple[Statement, ...]) -> Literal["explicit", "implicit"] | None:
        """How a query string commits, from the present status on."""
        status, unconfirmed = self.status, False
        for statement in found:
            if self._ends_something(statement, status, unconfirmed):
                return "explicit"
            if statement.deed == "begin":
                status, unconfirmed = "T", False
            elif statement.deed in ("commit", "rollback", "prepare") and not statement.savepoint:
                status, unconfirmed = "T" if statement.chain else "I", False
            elif statement.savepoint:
                status = "T"
            elif statement.deed == "write" and status == "I":
                unconfirmed = True
        return "implicit" if unconfirmed else None
