"""What was measured of mutants, and the table of it."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from duress.reports.statistics import median, median_interval
from duress.scenarios.mutants import Mutant


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One repetition. `caught` names the invariants that were broken; none: it was given up after `most` seeds."""

    mutant: str
    scheduler: str
    repetition: int
    seeds: int
    seconds: float
    caught: tuple[str, ...]
    most: int


COLUMNS = ("mutant", "grade", "scheduler", "found", "seeds: median [95 %]", "seconds", "by")


def lines(mutants: Sequence[Mutant], known: Sequence[Found]) -> list[str]:
    """One row for each mutant and scheduler, by name; what was never found says so."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for mutant in mutants:
        own = [one for one in known if one.mutant == mutant.name]
        rows += [_row(mutant, name, [one for one in own if one.scheduler == name]) for name in _schedulers(own)]
        if not own:
            rows.append((mutant.name, mutant.grade, "", "not measured", "", "", ""))
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(mutant: Mutant, scheduler: str, sample: Sequence[Found]) -> tuple[str, ...]:
    # One that was not found took longer than was waited: beyond every number.
    seeds = [float(one.seeds) if one.caught else math.inf for one in sample]
    seconds = [one.seconds if one.caught else math.inf for one in sample]
    found = sum(bool(one.caught) for one in sample)
    most = min((one.most for one in sample if not one.caught), default=0)
    by = Counter(invariant for one in sample for invariant in one.caught)
    interval = median_interval(seeds)
    span = "" if interval is None else f" [{_number(interval.low, most)}, {_number(interval.high, most)}]"
    return (
        mutant.name,
        mutant.grade,
        scheduler,
        f"{found} of {len(sample)}" if found else f"NOT FOUND in {len(sample)}",
        _number(median(seeds), most) + span,
        f"{median(seconds):.0f}" if median(seconds) < math.inf else "",
        " ".join(f"{invariant}:{count}" for invariant, count in by.most_common()),
    )


def _number(value: float, most: int) -> str:
    return f"{value:g}" if value < math.inf else f"> {most}"


def _schedulers(known: Sequence[Found]) -> list[str]:
    return list(dict.fromkeys(one.scheduler for one in known))
