"""PostgreSQL's protocol, versions 3.0 and 3.2, as far as a proxy must read it: whole messages, cut out of a stream.

A message is its kind (one byte), its length (four bytes, themselves included) and its body; only what a client says
first has no kind. https://www.postgresql.org/docs/18/protocol-message-formats.html

Why not a codec such as pygwire (0.2.0): it decodes every message (3.3 µs each; this takes a tenth), keeps no bytes to pass
on, and refuses kinds that it does not know, where a proxy has to stay out of the way.
"""

import struct
from typing import Final, Literal, NamedTuple

Direction = Literal["to-server", "to-worker"]

# The same byte may mean one thing to the server and another to the client.
TO_SERVER: Final = {
    ord("Q"): "Query",
    ord("P"): "Parse",
    ord("B"): "Bind",
    ord("D"): "Describe",
    ord("E"): "Execute",
    ord("C"): "Close",
    ord("S"): "Sync",
    ord("H"): "Flush",
    ord("F"): "FunctionCall",
    ord("X"): "Terminate",
    ord("p"): "Password",
    ord("d"): "CopyData",
    ord("c"): "CopyDone",
    ord("f"): "CopyFail",
    0: "Startup",
}
TO_WORKER: Final = {
    ord("R"): "Authentication",
    ord("K"): "BackendKeyData",
    ord("v"): "NegotiateProtocolVersion",
    ord("S"): "ParameterStatus",
    ord("Z"): "ReadyForQuery",
    ord("C"): "CommandComplete",
    ord("I"): "EmptyQueryResponse",
    ord("s"): "PortalSuspended",
    ord("1"): "ParseComplete",
    ord("2"): "BindComplete",
    ord("3"): "CloseComplete",
    ord("t"): "ParameterDescription",
    ord("T"): "RowDescription",
    ord("n"): "NoData",
    ord("D"): "DataRow",
    ord("V"): "FunctionCallResponse",
    ord("E"): "ErrorResponse",
    ord("N"): "NoticeResponse",
    ord("A"): "NotificationResponse",
    ord("G"): "CopyInResponse",
    ord("H"): "CopyOutResponse",
    ord("W"): "CopyBothResponse",
    ord("d"): "CopyData",
    ord("c"): "CopyDone",
}
MESSAGE_NAMES: Final = frozenset(TO_SERVER.values()) | frozenset(TO_WORKER.values())

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
STARTUP_LIMIT: Final = 10000  # bytes; PostgreSQL's own limit for what a client says first

_LENGTH: Final = struct.Struct(">I")
_HEADER: Final = 5
# Of these only the beginning is read (a Bind's names), so they may pass in pieces and need not fit into memory.
_STREAMED: Final = {"to-server": frozenset(b"BdF"), "to-worker": frozenset(b"DdV")}
_STREAM_FROM: Final = 65536  # bytes
_BEGINNING: Final = 4096  # bytes of a streamed message that are read
_ROWS: Final = frozenset(b"Dd")


def name_of(kind: int, direction: Direction) -> str:
    """The message's name in PostgreSQL's documentation."""
    return (TO_SERVER if direction == "to-server" else TO_WORKER).get(kind, f"kind {kind}")


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message as bytes."""
    return kind + _LENGTH.pack(len(body) + 4) + body


FLUSH: Final = message(b"H")


def refusal(code: str, text: str) -> bytes:
    """What a server says that does not let a client in."""
    parts = (b"SFATAL", b"VFATAL", b"C" + code.encode(), b"M" + text.encode(), b"")
    return message(b"E", b"\0".join(parts) + b"\0")


class Piece(NamedTuple):
    """Bytes to be passed on together: a whole message, a run of rows, or a part of a message too large to wait for.

    `body` is None if this piece goes on with a message that began before. `size` is that of the message(s) on the wire.
    """

    kind: int
    data: bytes  # without what has been passed on already
    body: bytes | None
    size: int
    messages: int = 1


class Reader:
    """Cuts one direction of a connection into pieces at message boundaries.

    It knows which bytes the caller has passed on unseen, so that the caller may begin to look, or cease to, at any time.
    """

    def __init__(self, direction: Direction) -> None:
        self._streamed = _STREAMED[direction]
        self._rest = bytearray()  # the beginning of a message that is not whole
        self._passed = 0  # how much of it has been passed on
        self._wanted = _HEADER  # bytes there must be before looking again
        self._streaming = 0  # bytes that are still to come of a message in pieces
        self._kind = 0

    @property
    def behind(self) -> bool:
        """Whether something has been read that is in no piece yet and was not passed on either."""
        return len(self._rest) > self._passed

    def flush(self) -> bytes:
        """What has been read and is in no piece yet, to be passed on now."""
        data = bytes(self._rest[self._passed :])
        self._passed = len(self._rest)
        return data

    def feed(self, chunk: bytes, *, passed: bool, rows_alone: bool = False) -> list[Piece]:
        """The pieces that are whole now. `passed`: the caller has passed the chunk on already, so that `data` of the
        pieces is of no use. `rows_alone`: each row is a piece of its own.
        """
        found: list[Piece] = []
        if self._streaming:
            part = chunk[: self._streaming]
            self._streaming -= len(part)
            found.append(Piece(self._kind, part, None, 0))
            chunk = chunk[len(part) :]
        if self._rest:
            self._rest += chunk
            if passed:
                self._passed = len(self._rest)
            if len(self._rest) < self._wanted:
                return found
            chunk, skipped = bytes(self._rest), self._passed
            self._rest.clear()
        else:
            skipped = 0
        end = self._cut(chunk, skipped, found, rows_alone)
        if end < len(chunk):
            self._rest += chunk[end:]
        self._passed = len(self._rest) if passed else max(0, skipped - end)
        return found

    def _cut(self, data: bytes, skipped: int, found: list[Piece], rows_alone: bool) -> int:
        """Append the pieces of `data`; returns where the first message begins that is not whole."""
        at, total, streamed = 0, len(data), self._streamed
        unpack = _LENGTH.unpack_from
        while total - at >= _HEADER:
            kind = data[at]
            size = unpack(data, at + 1)[0] + 1
            end = at + size
            if kind in _ROWS and kind in streamed and end <= total and not rows_alone:
                count = 1
                while total - end >= _HEADER and data[end] == kind:
                    following = end + unpack(data, end + 1)[0] + 1
                    if following > total:
                        break
                    end = following
                    count += 1
                found.append(Piece(kind, data[max(at, skipped) : end], b"", end - at, count))
            elif end <= total:
                found.append(Piece(kind, data[max(at, skipped) : end], data[at + _HEADER : end], size))
            elif size >= _STREAM_FROM and kind in streamed and total - at >= _BEGINNING:
                found.append(Piece(kind, data[max(at, skipped) :], data[at + _HEADER :], size))
                self._kind, self._streaming = kind, end - total
                at = total
                break
            else:
                self._wanted = _BEGINNING if size >= _STREAM_FROM and kind in streamed else size
                return at
            at = end
        else:
            self._wanted = _HEADER
        return at
