"""What must be undone if the harness dies: written down before it is done, crossed out once it is undone.

One file per harness, JSON lines. A killed harness leaves its file, and `heal_leftovers` does from it what the harness
no longer could. No process is touched unless it is the one that was written down: its start time is compared.
"""

import itertools
import os
from pathlib import Path

import msgspec

from duress.faults import undo
from duress.faults.undo import Deed, ProcessId, boot, identify

FOLDER = Path(".duress/journal")
_number = itertools.count(1)


class Undo(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="undo"):
    """A line: what would undo an injection."""

    id: int
    deed: Deed
    why: str  # the injection, readable


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="head"):
    """The first line: whose journal it is, since which boot."""

    harness: ProcessId
    boot: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="done"):
    """A line: the injection `done` has been undone."""

    done: int


class Journal:
    """The journal of one run of this process. Its file appears with the first line and goes when all in it is undone.

    Lines are handed to the kernel before `record` returns, which a SIGKILL of the harness cannot take back; a power
    cut ends the stopped processes too, so nothing is synced to disk.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        me = identify(os.getpid())
        assert me is not None, "/proc does not know this process"
        self._head = Head(harness=me, boot=boot())
        self._path = folder / f"{me.pid}-{me.start_time}-{next(_number)}.jsonl"
        self._open: set[int] = set()
        self._last = 0

    def record(self, deed: Deed, why: str) -> int:
        """Write down what will undo the injection that comes next; give the number for `done`."""
        self._last += 1
        self._open.add(self._last)
        self._write(Undo(id=self._last, deed=deed, why=why))
        return self._last

    def done(self, number: int) -> None:
        """It has been undone."""
        self._open.discard(number)
        if self._open:
            self._write(Done(done=number))
        else:
            self._path.unlink(missing_ok=True)

    def _write(self, line: Undo | Done) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = not self._path.exists()
        with self._path.open("ab", buffering=0) as file:
            head = msgspec.json.encode(self._head) + b"\n" if new else b""
            file.write(head + msgspec.json.encode(line) + b"\n")


def heal_leftovers(folder: Path = FOLDER) -> list[str]:
    """Undo what harnesses that are gone have left; a sentence for each thing done or that could not be done.

    A harness that still runs is left alone. A file that has been dealt with is removed.
    """
    said: list[str] = []
    for path in sorted(folder.glob("*.jsonl")):
        try:
            head, open_entries = _read(path)
        except msgspec.MsgspecError as error:
            said.append(f"{path} is not a journal ({error}); look at it and delete it")
            continue
        if head.boot == boot():
            if head.harness.lives():
                left = len(open_entries)
                said.append(f"harness {head.harness.pid} still runs and will undo {left} injections itself")
                continue
            kept = False
            for entry in open_entries:
                try:
                    said.extend(undo.do(entry.deed, entry.why))
                except undo.NotUndone as error:
                    said.append(f"{path} is kept: {error} ({entry.why})")
                    kept = True
            if kept:
                continue
        path.unlink(missing_ok=True)
    return said


def _read(path: Path) -> tuple[Head, list[Undo]]:
    """The entries not crossed out. A last line without its end was never followed by the injection."""
    first, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]
    entries: dict[int, Undo] = {}
    for line in lines:
        entry = msgspec.json.decode(line, type=Undo | Done)
        if isinstance(entry, Undo):
            entries[entry.id] = entry
        else:
            entries.pop(entry.done, None)
    return msgspec.json.decode(first, type=Head), list(entries.values())
