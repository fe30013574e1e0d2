"""The SQL of a story: what a worker said to the server since its last event, in few words."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from duress.scenarios import history
from duress.scenarios.history import Entry
from duress.scenarios.observed import Exchange, Simulated

_DIGEST: Final = re.compile(r" /[0-9a-f]{8}$")
_OURS: Final = re.compile(r"select (?:\* from )?(?:\"?\w+\"?\.)?(\w+?)_v\d+\(")
_SPACE: Final = re.compile(r"\s+")
# Said by every session, or by a worker whatever it works on.
_IDLE: Final = (
    "prepare",
    "select set_config",
    "listen",
    "select pg_",
    "select count(pg_",
    "select extract(",
    "select s.name",
)
_LIVELY: Final = frozenset({"renew", "take_over", "claim", "await"})
LONGEST: Final = 78  # letters of one statement


class Statements:
    """The exchanges of a run, read once from its beginning to its end, beside the history."""

    def __init__(self, entries: Sequence[Entry], simulated: Simulated | None) -> None:
        exchanges = () if simulated is None else simulated.exchanges
        self._left: dict[str, list[Exchange]] = {}
        for exchange in exchanges:
            self._left.setdefault(exchange[1], []).append(exchange)
        # Exchanges are timed from the run's beginning, entries from the workload's.
        began = simulated.began if simulated is not None else 0.0
        self._began = began

    def until(self, entry: Entry) -> str:
        """What the worker of this entry has said since the last one that was asked for."""
        if not entry.source.startswith("worker ") or entry.name == history.RECEIVED:
            return ""
        waiting = self._left.get(entry.source.replace(" ", "-"), [])
        said = []
        while waiting and waiting[0][0] - self._began <= entry.at + 1e-9:
            said.append(brief(waiting.pop(0)[3]))
        return in_few(filter(None, said))


def in_few(said: Iterable[str]) -> str:
    """Statements in their order, each text once, with how often."""
    return "; ".join(text if times == 1 else f"{text} (×{times})" for text, times in Counter(said).items())


def brief(text: str) -> str:
    """One statement; empty if it says nothing of the work."""
    plain = _SPACE.sub(" ", _DIGEST.sub("", text)).strip()
    if plain.startswith(_IDLE):
        return ""
    if (ours := _OURS.match(plain)) is not None:
        return "" if ours[1] in _LIVELY else f"{ours[1]}()"
    if plain.startswith("begin"):
        return "begin"
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"
