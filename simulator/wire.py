"""PostgreSQL's protocol (version 3) as far as a link must read it: what was asked, what was answered, and where to cut.

What it says of a message is the same in every run of the same choices: process ids of backends, which the operating
system gives, and the OIDs of tables are left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from zlib import crc32

from .server.page import NAME_BYTES

# https://www.postgresql.org/docs/18/protocol-message-formats.html
_QUERY, _PARSE, _BIND, _EXECUTE, _CLOSE, _TERMINATE, _SYNC, _DESCRIBE, _FLUSH = b"QPBECXSDH"
_COPY_DATA, _COPY_DONE, _COPY_FAIL = b"dcf"
_ROW_DESCRIPTION, _ROW, _COMPLETE, _READY, _ERROR, _NOTICE, _NOTIFICATION, _BACKEND_KEY, _PARAMETER = b"TDCZENAKS"
TERMINATE: Final = b"X\0\0\0\4"  # what a client says last
_FIRST_USER_OID: Final = 16384
_NAME: Final = b"\0application_name\0"
_COMMITS: Final = re.compile(r"\s*(commit|end)\b", re.IGNORECASE)
_PIDS: Final = re.compile(r"pid\b|_backend\b", re.IGNORECASE)
_NUMBERS: Final = re.compile(r"\d+")
_TAGS: Final = {b"COMMIT", b"PREPARE TRANSACTION", b"COMMIT PREPARED"}


@dataclass(frozen=True, slots=True)
class Question:
    """What a client sent: for a trace, and whether it asks to commit."""

    text: str
    commits: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server sent. `committed` is how many COMMITs it confirms; `complete` and `ready` are where, in the bytes that
    were read, the first of those confirmations and the last ReadyForQuery begin (-1: not in them). `errors`: SQLSTATEs.
    """

    text: str
    committed: int
    complete: int
    ready: int
    notified: bool
    errors: tuple[str, ...] = ()


class Framing:
    """Cuts a stream into whole messages; keeps what belongs to the next one."""

    def __init__(self) -> None:
        self._rest = b""

    def cut(self, chunk: bytes) -> tuple[bytes, list[tuple[int, int, int]]]:
        """The bytes from the first unread message on, and (kind, start, end) of each that is whole."""
        data = self._rest + chunk if self._rest else chunk
        found, at, size = [], 0, len(data)
        while size - at >= 5:
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
            if end > size:
                break
            found.append((data[at], at, end))
            at = end
        self._rest = data[at:]
        return data, found

    @property
    def rest(self) -> int:
        """How many bytes of an unfinished message are kept."""
        return len(self._rest)


class Questions:
    """Reads one client's side. The first message is the startup packet, which has no kind."""

    def __init__(self) -> None:
        self._framing = Framing()
        self._started = False
        self._statements: dict[bytes, str] = {}

    def read(self, chunk: bytes) -> Question:
        if not self._started:
            self._started = True
            return Question("connect " + _startup(chunk), commits=False)
        data, found = self._framing.cut(chunk)
        words: list[str] = []
        commits, digest = False, 0
        for kind, start, end in found:
            text, asks, counts = self._message(kind, data[start + 5 : end])
            if text:
                words.append(text)
            commits = commits or asks
            if counts:
                digest = crc32(data[start:end], digest)
        return Question(f"{'; '.join(words)} /{digest:08x}", commits)

    def _message(self, kind: int, body: bytes) -> tuple[str, bool, bool]:
        """What it says, whether it commits, and whether its bytes are the same in every run."""
        if kind == _QUERY:
            return self._sql(body[:-1])
        if kind == _PARSE:
            name, rest = body.split(b"\0", 1)
            text, commits, counts = self._sql(rest.split(b"\0", 1)[0])
            self._statements[name] = text
            return ("" if not name else f"prepare {text}"), commits and not name, counts
        if kind == _BIND:
            text = self._statements.get(body.split(b"\0", 2)[1], "")
            return text, bool(_COMMITS.match(text)), not _PIDS.search(text)
        if kind in {_COPY_DATA, _COPY_DONE, _COPY_FAIL, _TERMINATE}:
            return f"{chr(kind)}{len(body)}", False, True
        return "", False, True

    def _sql(self, sql: bytes) -> tuple[str, bool, bool]:
        text = sql.decode("utf-8", "replace")
        if _PIDS.search(text):
            return _NUMBERS.sub("n", text), False, False
        return text, bool(_COMMITS.match(text)), True


class Answers:
    """Reads one server's side."""

    def __init__(self) -> None:
        self._framing = Framing()
        self._hidden: tuple[int, ...] = ()

    def read(self, chunk: bytes) -> Answer:
        before = self._framing.rest
        data, found = self._framing.cut(chunk)
        words: list[str] = []
        errors: list[str] = []
        digest, rows, committed, complete, ready, notified = 0, 0, 0, -1, -1, False
        for kind, start, end in found:
            if kind == _ROW:
                rows += 1
                digest = crc32(self._row(data[start:end]), digest)
                continue
            if kind == _ROW_DESCRIPTION:
                shown, self._hidden = _description(data[start:end])
                digest = crc32(shown, digest)
                continue
            if kind == _COMPLETE:
                tag = data[start + 5 : end - 1]
                words.append(tag.decode())
                if tag in _TAGS:
                    committed += 1
                    complete = max(0, start - before) if complete < 0 else complete
            elif kind == _READY:
                ready = max(0, start - before)
                words.append(chr(data[start + 5]))
            elif kind in {_ERROR, _NOTICE}:
                said = fields(data[start + 5 : end])
                words.append(_complaint(said))
                if kind == _ERROR:
                    errors.append(said.get("C", ""))
                continue
            elif kind == _NOTIFICATION:
                notified = True
                words.append("notify")
                digest = crc32(data[start + 9 : end], digest)
                continue
            elif kind == _BACKEND_KEY:
                continue
            digest = crc32(data[start:end], digest)
        return Answer(
            f"{rows} rows, {'; '.join(words)} /{digest:08x}", committed, complete, ready, notified, tuple(errors)
        )

    def _row(self, message: bytes) -> bytes:
        """The row without the columns that hold process ids."""
        if not self._hidden:
            return message
        at, kept = 7, [message[5:7]]
        for number in range(int.from_bytes(message[5:7], "big")):
            length = int.from_bytes(message[at : at + 4], "big", signed=True)
            end = at + 4 + max(0, length)
            if number not in self._hidden:
                kept.append(message[at:end])
            at = end
        return b"".join(kept)


def without_notifications(chunk: bytes) -> bytes:
    """The same bytes with every whole NotificationResponse taken out."""
    data, found = Framing().cut(chunk)
    kept = [data[start:end] for kind, start, end in found if kind != _NOTIFICATION]
    last = found[-1][2] if found else 0
    return b"".join([*kept, data[last:]])


@lru_cache(maxsize=4096)
def _description(message: bytes) -> tuple[bytes, tuple[int, ...]]:
    """A RowDescription without the tables' OIDs, and which columns hold process ids, by their names."""
    at, kept, hidden = 7, [], []
    for number in range(int.from_bytes(message[5:7], "big")):
        end = message.index(b"\0", at)
        name = message[at:end]
        kind = int.from_bytes(message[end + 7 : end + 11], "big")
        kept.append(name + (message[end + 7 : end + 11] if kind < _FIRST_USER_OID else b"\0"))
        if _PIDS.search(name.decode("utf-8", "replace")):
            hidden.append(number)
        at = end + 19
    return b"\0".join(kept), tuple(hidden)


def fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse, by their letter."""
    parts = body.rstrip(b"\0").split(b"\0")
    return {chr(part[0]): part[1:].decode("utf-8", "replace") for part in parts if part}


def _complaint(said: dict[str, str]) -> str:
    """Code and message; the detail of a deadlock names process ids and transactions."""
    return f"{said.get('C', '')} {_NUMBERS.sub('n', said.get('M', ''))}"


def _startup(packet: bytes) -> str:
    """The parameters of a startup packet, but those that name the user and the database of this run."""
    words = [word.decode("utf-8", "replace") for word in packet[8:].split(b"\0")]
    pairs = zip(words[::2], words[1::2], strict=False)
    return ", ".join(f"{name}={value}" for name, value in pairs if name and name not in {"user", "database"})


def without_name(startup: bytes) -> tuple[bytes, bytes]:
    """A startup packet but for its application_name, and that; an empty one where another session's could not become it.

    PostgreSQL rewrites names that are long or not plain ASCII, and one that was not asked for is shown in no other way.
    """
    head, mark, rest = startup.partition(_NAME)
    name, end, tail = rest.partition(b"\0")
    if not mark or not end or not 0 < len(name) < NAME_BYTES or not name.isascii() or not name.decode().isprintable():
        return startup, b""
    return head[4:] + mark + tail, name  # without its length, too


def greeting_to(name: bytes, greeting: bytes) -> bytes:
    """What a server says to a client of this application_name, where it has said this to one of another."""
    said = _NAME[1:]
    return b"".join(
        _message(kind, said + name + b"\0" if kind == _PARAMETER and body.startswith(said) else body)
        for kind, body in walk(greeting)
    )


def backend_pid(greeting: bytes) -> int | None:
    """The process id in BackendKeyData, or None where a server refused."""
    for kind, body in walk(greeting):
        if kind == _BACKEND_KEY:
            return int.from_bytes(body[:4], "big")
    return None


def walk(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, body) of every whole message."""
    data, found = Framing().cut(stream)
    for kind, start, end in found:
        yield kind, data[start + 5 : end]


def startup_packet(**parameters: str) -> bytes:
    """What a client says first."""
    words = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    return (len(words) + 8).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + words


def query(text: str) -> bytes:
    """A simple query."""
    return _message(_QUERY, text.encode() + b"\0")


def refusal(code: str, message: str) -> bytes:
    """What a server says that does not let a client in."""
    parts = [b"SFATAL", b"VFATAL", b"C" + code.encode(), b"M" + message.encode(), b""]
    return _message(_ERROR, b"\0".join(parts) + b"\0")


def _message(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(1, "big") + (len(body) + 4).to_bytes(4, "big") + body


def is_finished(stream: bytes) -> bool:
    """Whether the last message is there in full and is ReadyForQuery."""
    return len(stream) >= 6 and stream[-6] == _READY and stream[-5:-1] == b"\0\0\0\5"
