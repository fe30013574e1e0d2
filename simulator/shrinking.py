"""Fewer and smaller decisions that still come to the same: asyncio's order, the least latency, no fault of the program's own.

In every decision 0 is the plain one, and a replay makes it wherever its record has ended. So a record gets simpler as more
of it is 0. A search proposes records and is told what each run really decided, if it still came to the same: it holds no
run itself, and serves whoever can make one, in whatever way (delta debugging: Zeller, Hildebrandt, TSE 2002).
"""

import time
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import tokens

if TYPE_CHECKING:
    from .run import Program
    from .simulation import Attempt, Simulation

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


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A failing run of a program with fewer decisions off asyncio's order and the least latency."""

    attempt: "Attempt"
    before: int  # such decisions
    after: int
    runs: int
    complete: bool  # none that is left can be made plain; False: the time was up before that was known
    near: "Attempt | None"  # a run that does not fail, of which one decision less is so


def shrink(
    simulation: "Simulation", main: "Program", failed: "Attempt", *, seconds: float = 20.0, runs: int | None = None
) -> Shrunk:
    """Make a failing run of a program plainer, for as long as it fails alike: by the same error, raised in the same line."""
    until, tried, complete = time.monotonic() + seconds, 0, False
    best, near = failed, None
    search = simpler(failed.choices.recorded)
    try:
        proposal = next(search)
        while time.monotonic() < until and (runs is None or tried < runs):
            tried += 1
            attempt = simulation.attempt(main, token=tokens.encode(failed.choices.seed, proposal))
            if _alike(attempt, failed):
                best = attempt
                proposal = search.send(attempt.choices.recorded)
            else:
                if attempt.error is None and weight(proposal)[0] + 1 == weight(best.choices.recorded)[0]:
                    near = attempt
                proposal = search.send(None)
    except StopIteration:
        complete = True
    before, after = (weight(one.choices.recorded)[0] for one in (failed, best))
    return Shrunk(best, before, after, tried, complete, near)


def _alike(attempt: "Attempt", failed: "Attempt") -> bool:
    return not attempt.broken and _failure(attempt) == _failure(failed)


def _failure(attempt: "Attempt") -> tuple[str, str, int] | None:
    """What failed, and where: messages hold numbers that differ."""
    if attempt.error is None:
        return None
    last = traceback.extract_tb(attempt.error.__traceback__)[-1:]
    file, line = (last[0].filename, last[0].lineno or 0) if last else ("", 0)
    return type(attempt.error).__qualname__, file, line
