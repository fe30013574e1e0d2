"""What happened in a run, in order, with a rolling hash: two runs of the same choices must agree at every entry.

Values that may differ between machines (process ids, addresses, real times) have no place in an entry.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple


class Entry(NamedTuple):
    """One thing that happened: at which virtual nanosecond, where ("" is the harness), what kind, what, which choice."""

    at: int
    process: str
    kind: str
    text: str
    choice: int

    def __str__(self) -> str:
        choice = "" if self.choice < 0 else f"  [choice {self.choice}]"
        return f"{self.at / 1e9:.9f}  {self.process or '-'}  {self.kind}  {self.text}{choice}"


Plain = tuple[int, str, str, str, int]
NO_CHOICE: Final = -1


class Record:
    """Entries and the hash over them. `keep=False` keeps the hash only, for runs too long to remember; `remarks=False` the
    entries only, for runs that are compared and that nobody reads."""

    BLOCK: Final = 512

    def __init__(self, *, keep: bool = True, remarks: bool = True) -> None:
        self._keep = keep
        self.takes_remarks = keep and remarks  # ask before working something out for `remark`
        self._hash = blake2b(digest_size=16)
        self._kept: list[Plain] = []
        self._fresh: list[Plain] = []
        self._count = 0
        self._remarks: list[tuple[int, Plain]] = []

    def add(self, at: int, process: str, kind: str, text: str, choice: int = NO_CHOICE) -> None:
        """Append one entry."""
        fresh = self._fresh
        # Plain tuples, for they are made at every step; hashed many at a time for the same reason.
        fresh.append((at, process, kind, text, choice))
        if len(fresh) >= self.BLOCK:
            self._take_in()

    def remark(self, at: int, process: str, kind: str, text: str, choice: int = NO_CHOICE) -> None:
        """Say something to whoever reads the entries. It is none itself and in no hash, so it costs a run nothing."""
        if self.takes_remarks:
            self._remarks.append((len(self), (at, process, kind, text, choice)))

    def _take_in(self) -> None:
        fresh = self._fresh
        self._hash.update("\n".join(map(repr, fresh)).encode("utf-8", "surrogatepass"))
        self._hash.update(b"\n")
        self._count += len(fresh)
        if self._keep:
            self._kept += fresh
        fresh.clear()

    def __len__(self) -> int:
        return self._count + len(self._fresh)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries that are kept, in order."""
        return tuple(map(Entry._make, [*self._kept, *self._fresh]))

    @property
    def told(self) -> tuple[Entry, ...]:
        """The entries with the remarks between them. A remark may be of an earlier moment."""
        entries, remarks = self.entries, deque(self._remarks)
        told: list[Entry] = []
        for index, entry in enumerate(entries):
            while remarks and remarks[0][0] <= index:
                told.append(Entry._make(remarks.popleft()[1]))
            told.append(entry)
        return tuple(told + [Entry._make(remark) for _, remark in remarks])

    def hexdigest(self) -> str:
        """The hash over everything so far."""
        if self._fresh:
            self._take_in()
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two runs part: the number of the entry, both entries (None where a run had ended), and what came before."""

    index: int
    first: Entry | None
    second: Entry | None
    before: tuple[Entry, ...]

    def __str__(self) -> str:
        lines = [f"      {entry}" for entry in self.before]
        lines += [f"  1st {self.first or 'ends here'}", f"  2nd {self.second or 'ends here'}"]
        return "\n".join([f"the runs part at entry {self.index}:", *lines])


def first_difference(a: Record | Sequence[Entry], b: Record | Sequence[Entry], context: int = 5) -> Difference | None:
    """The first entry at which two runs differ, or None."""
    first = a.entries if isinstance(a, Record) else a
    second = b.entries if isinstance(b, Record) else b
    for index in range(max(len(first), len(second))):
        one = first[index] if index < len(first) else None
        other = second[index] if index < len(second) else None
        if one != other:
            return Difference(index, one, other, tuple(first[max(0, index - context) : index]))
    return None
