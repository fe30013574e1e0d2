"""What has passed: a line for each message, without values unless they were asked for."""

import json
import re
from collections import deque
from pathlib import Path
from typing import Final

from duress.faults.proxy.messages import Direction, Piece, name_of

MOST: Final = 200_000  # messages that are remembered, the latest

_WORD: Final = re.compile(rb"\s*([A-Za-z]+)")
_COMPLETE, _ERROR, _READY = b"CEZ"


class MessageLog:
    """Remembers the latest messages. A run of rows is one entry."""

    def __init__(self, *, values: bool = False) -> None:
        self._values = values
        self._entries: deque[tuple[float, int, int, Direction, int, int, int, str]] = deque(maxlen=MOST)

    def request(self, at: float, worker: int, connection: int, piece: Piece, sql: bytes) -> None:
        """A message to the server; of its SQL the first word is kept, or with values all."""
        note = ""
        if sql:
            word = _WORD.match(sql)
            note = sql.decode("utf-8", "replace") if self._values else word[1].decode().lower() if word else ""
        self._entries.append((at, worker, connection, "to-server", piece.kind, piece.size, piece.messages, note))

    def reply(self, at: float, worker: int, connection: int, piece: Piece) -> None:
        """A message to the worker."""
        note, body = "", piece.body or b""
        if piece.kind == _COMPLETE or piece.kind == _READY:
            note = body.rstrip(b"\0").decode("latin-1")
        elif piece.kind == _ERROR:
            note = next((field[1:].decode() for field in body.split(b"\0") if field[:1] == b"C"), "")
        self._entries.append((at, worker, connection, "to-worker", piece.kind, piece.size, piece.messages, note))

    def save(self, path: Path, worker: int | None = None, since: float = 0.0) -> int:
        """Write the entries (of one worker, or all) from `since` on as JSON lines, times from then; returns how many."""
        lines = [
            json.dumps(
                {
                    "at": round(at - since, 6),
                    "worker": whose,
                    "connection": connection,
                    "direction": direction,
                    "message": name_of(kind, direction),
                    "size": size,
                    **({"count": count} if count > 1 else {}),
                    **({"note": note} if note else {}),
                }
            )
            for at, whose, connection, direction, kind, size, count, note in self._entries
            if worker in (None, whose) and at >= since
        ]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return len(lines)
