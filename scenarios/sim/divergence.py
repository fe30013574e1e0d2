"""Where two runs of one seed part, in words: in the record of the simulator, or in what came out of them."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from duress.scenarios.result import Divergence
from duress.simulator import Diverged, Entry
from duress.simulator.simulation import Attempt

_LONGEST: Final = 400  # characters of one entry


def divergence(seed: int, error: Diverged) -> Divergence:
    """What a report says of it."""
    where = error.difference
    if where is None:
        first, second = _endings(*error.attempts)
        return Divergence(
            seed=seed,
            message=f"all that happened is the same, but not what came out: {first} / {second}",
            first=first,
            second=second,
        )
    first, second = shown(where.first), shown(where.second)
    asked = _asked(error.attempts[0].entries[: where.index], where.first or where.second)
    place = f"at entry {where.index}" if asked is None else f"at entry {where.index}, in the answer to: {asked}"
    return Divergence(
        seed=seed,
        message=f"the runs part {place}: {first} / {second}",
        entry=where.index,
        asked=asked,
        before=tuple(shown(entry) for entry in where.before),
        first=first,
        second=second,
    )


def _asked(before: Sequence[Entry], differing: Entry | None) -> str | None:
    """Which statement it is the answer to, if it is one."""
    if differing is None or differing.kind != "answer":
        return None
    connection = differing.text.partition(" ")[0]
    for entry in reversed(before):
        if entry.kind == "send" and entry.text.partition(" ")[0] == connection:
            return _short(entry.text.partition(" ")[2])
    return None


def shown(entry: Entry | None) -> str:
    """An entry on one line."""
    return "it ends here" if entry is None else _short(str(entry))


def _endings(first: Attempt, second: Attempt) -> tuple[str, str]:
    """What came out of both, as far as it differs: the first entry of the history, or an error."""
    if first.outcome is not None and second.outcome is not None:
        for one, other in zip_longest(first.outcome.result.history, second.outcome.result.history):
            if one != other:
                return _short(repr(one)), _short(repr(other))
    return _short(first.ending), _short(second.ending)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
