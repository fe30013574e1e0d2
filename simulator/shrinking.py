"""Fewer and smaller decisions that still come to the same: asyncio's order, the least latency, no fault of the program's own.

In every decision 0 is the plain one, and a replay makes it wherever its record has ended. So a record gets simpler as more
of it is 0. A search proposes records and is told what each run really decided, if it still came to the same: it holds no
run itself, and serves whoever can make one, in whatever way (delta debugging: Zeller, Hildebrandt, TSE 2002).
"""

from collections.abc import Callable, Generator, Mapping
from typing import Final

Recorded = Mapping[str, tuple[int, ...]]
Search = Generator[Recorded, Recorded | None, Recorded]

FEW: Final = 24  # decisions; so few are tried one by one, and then made as small as can be


def weight(recorded: Recorded) -> tuple[int, int]:
    """What a search makes less: how many decisions are not the plain ones, then how large they are."""
    others = [value for values in recorded.values() for value in values if value]
    return len(others), sum(others)


def simpler(recorded: Recorded, finest: int = 1) -> Search:
    """The plainest record that the search can find; `recorded` itself if it finds none. Send what a run of the proposed
    record really decided, or None if it came to something else.

    Decisions are tried in stretches, the shortest of `finest`.
    """
    best = yield from _better(recorded, {})
    for stream in sorted(best, key=lambda name: -len(best[name])):
        best = yield from _better(best, {**best, stream: ()})
    best = yield from _cut_short(best)
    chunk = max((len(values) for values in best.values()), default=0)
    while chunk >= finest:
        best = yield from _plain_chunks(best, chunk)
        chunk //= 4 if chunk > FEW else 2
    return (yield from _smaller(best)) if finest == 1 and weight(best)[0] <= FEW else best


def _better(best: Recorded, proposal: Recorded) -> Search:
    """The proposal's run, if that is simpler."""
    if weight(proposal) >= weight(best):
        return best
    made = yield proposal
    return best if made is None or weight(made) >= weight(best) else made


def _cut_short(best: Recorded) -> Search:
    """Plain from some decision on: often nothing that comes late matters. Halves what is left of each stream."""
    for stream in sorted(best):
        low, high = 0, _end(best, stream)  # as far as is known, `low` is too short
        while low < high:
            middle = (low + high) // 2
            shorter = yield from _better(best, {**best, stream: best[stream][:middle]})
            if shorter is best:
                low = middle + 1
            else:
                best = shorter
                high = min(middle, _end(best, stream))
    return best


def _plain_chunks(best: Recorded, chunk: int) -> Search:
    """Plain in one stretch after the other, the last first: what comes before it is not disturbed."""
    for stream in sorted(best):
        start = (_end(best, stream) - 1) // chunk * chunk
        while start >= 0:
            values = best[stream]
            if any(values[start : start + chunk]):
                # In their places, so that later decisions keep theirs.
                plain = values[:start] + (0,) * len(values[start : start + chunk]) + values[start + chunk :]
                best = yield from _better(best, {**best, stream: plain})
            start -= chunk
    return best


def _smaller(best: Recorded) -> Search:
    """Each decision that is left smaller, by a few tries."""
    for stream in sorted(best):
        for place in range(len(best[stream])):
            for lower in (lambda value: 1, lambda value: value // 2, lambda value: value - 1):
                best = yield from _lowered(best, stream, place, lower)
    return best


def _lowered(best: Recorded, stream: str, place: int, lower: Callable[[int], int]) -> Search:
    values = best[stream]
    if place >= len(values) or not 0 < lower(values[place]) < values[place]:
        return best
    return (yield from _better(best, {**best, stream: (*values[:place], lower(values[place]), *values[place + 1 :])}))


def _end(recorded: Recorded, stream: str) -> int:
    """After the last decision that is not plain."""
    values = recorded.get(stream, ())
    return next((place + 1 for place in reversed(range(len(values))) if values[place]), 0)
