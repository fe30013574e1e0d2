"""Where two runs part: the first difference, both sides with what came before and after, and how each ended."""

from collections.abc import Iterator, Sequence
from typing import Final

from duress.reports.timeline import lines
from duress.reports.trace import Trace
from duress.scenarios.observed import Happening

_BEFORE: Final = 8  # lines
_AFTER: Final = 12
_LONGEST: Final = 220  # characters of one


def parting(first: Sequence[Happening], second: Sequence[Happening]) -> int | None:
    """The index of the first entry that is not the same; None if all are."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return None if len(first) == len(second) else min(len(first), len(second))


def difference(a: Trace, b: Trace) -> Iterator[str]:
    """Line by line, for a terminal."""
    yield from _head("A", a)
    yield from _head("B", b)
    index = parting(a.entries, b.entries)
    yield ""
    if index is None:
        same = "the same run" if a.verdict == b.verdict else "the same run, and judged differently"
        yield f"{same}: {len(a.entries):,} entries are equal"
        return
    at = min(entries[index][0] for entries in (a.entries, b.entries) if index < len(entries))
    yield f"the runs part at {at / 1e6:.6f} ms, after {index:,} entries that are equal:"
    yield from (f"     {_cut(line)}" for line in list(lines(a.entries[:index]))[-_BEFORE:])
    for name, entries in (("A", a.entries), ("B", b.entries)):
        yield ""
        yield from _side(name, entries, index)


def _head(name: str, trace: Trace) -> Iterator[str]:
    yield f"{name}  {trace.verdict:<12}  {trace.scenario}, seed {trace.seed}: {trace.token}"
    yield from (f"   {line}" for line in trace.said)


def _side(name: str, entries: Sequence[Happening], index: int) -> Iterator[str]:
    """The differing entry as it is, then how the run goes on."""
    if index >= len(entries):
        yield f"  {name}  ends here"
        return
    at, process, kind, text, choice = entries[index]
    chosen = "" if choice < 0 else f" [choice {choice}]"
    yield f"  {name}  {at / 1e6:>13.6f}  {process or '-':<10}  {_cut(' '.join(f'{kind}: {text}{chosen}'.split()))}"
    yield from (f"     {_cut(line)}" for line in _following(entries, index))


def _following(entries: Sequence[Happening], index: int) -> list[str]:
    """The whole run is told, for what comes first names what comes later."""
    told = list(lines(entries))
    before = len(list(lines(entries[:index])))
    return told[before : before + _AFTER]


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
