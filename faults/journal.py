"""What must be undone if the harness dies: written down before it is done, crossed out once it is undone.

One file per harness, JSON lines. A killed harness leaves its file, and `heal_leftovers` does from it what the harness
no longer could. No process is touched unless it is the one that was written down: its start time is compared.
"""

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

FOLDER = Path(".duress/journal")
PROC = Path("/proc")
_number = itertools.count(1)


class ProcessId(msgspec.Struct, frozen=True, kw_only=True):
    """A process, told apart from a later one with the same number."""

    pid: int
    start_time: int  # clock ticks from boot to its start (field 22 of /proc/<pid>/stat, proc_pid_stat(5))

    def lives(self) -> bool:
        """Whether it runs or is stopped; a zombie does not live."""
        stat = _stat(self.pid)
        return stat is not None and int(stat[19]) == self.start_time and stat[0] not in "ZX"


class Undo(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="undo"):
    """A line: what would undo an injection."""

    id: int
    undo: Literal["SIGCONT"]
    processes: tuple[ProcessId, ...]
    why: str  # the injection, readable


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="head"):
    """The first line: whose journal it is, since which boot."""

    harness: ProcessId
    boot: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="done"):
    """A line: the injection `done` has been undone."""

    done: int


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now."""
    stat = _stat(pid)
    return None if stat is None else ProcessId(pid=pid, start_time=int(stat[19]))


def group(pgid: int) -> tuple[ProcessId, ...]:
    """The processes of a process group that live."""
    return tuple(
        ProcessId(pid=pid, start_time=int(stat[19]))
        for pid in sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
        if (stat := _stat(pid)) is not None and int(stat[2]) == pgid and stat[0] not in "ZX"
    )


class Journal:
    """The journal of one run of this process. Its file appears with the first line and goes when all in it is undone.

    Lines are handed to the kernel before `record` returns, which a SIGKILL of the harness cannot take back; a power
    cut ends the stopped processes too, so nothing is synced to disk.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        me = identify(os.getpid())
        assert me is not None, "/proc does not know this process"
        self._head = Head(harness=me, boot=_boot())
        self._path = folder / f"{me.pid}-{me.start_time}-{next(_number)}.jsonl"
        self._open: set[int] = set()
        self._last = 0

    def record(self, undo: Literal["SIGCONT"], processes: tuple[ProcessId, ...], why: str) -> int:
        """Write down what will undo the injection that comes next; give the number for `done`."""
        self._last += 1
        self._open.add(self._last)
        self._write(Undo(id=self._last, undo=undo, processes=processes, why=why))
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
        if head.boot == _boot():
            if head.harness.lives():
                left = len(open_entries)
                said.append(f"harness {head.harness.pid} still runs and will undo {left} injections itself")
                continue
            try:
                for entry in open_entries:
                    said.extend(_undo(entry))
            except PermissionError as error:
                said.append(f"{path} is kept: {error.filename}; run this as the user that ran the harness")
                continue
        path.unlink(missing_ok=True)
    return said


def _undo(entry: Undo) -> Iterator[str]:
    for process in entry.processes:
        if not process.lives():
            continue
        try:
            os.kill(process.pid, signal.SIGCONT)
        except PermissionError as error:
            raise PermissionError(error.errno, error.strerror, f"may not signal process {process.pid}") from None
        except ProcessLookupError:
            continue  # it ended just now
        yield f"sent SIGCONT to process {process.pid}, which a harness that is gone had stopped ({entry.why})"


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


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third on: [0] is the state, [2] the group, [19] the start time."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()  # the second field is the command's name, which may contain anything
