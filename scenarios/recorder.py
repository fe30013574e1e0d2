"""The history as it grows, in the harness's memory: outside of the database under test and of every worker."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import Entry

HOLDS = frozenset({observer.CLAIMED})
LETS_GO = frozenset({observer.FINISHED, observer.SUSPENDED, observer.RELEASED, observer.FENCED})

Tap = Callable[[str, str, Mapping[str, Any], float | None], None]


class Recorder:
    """Collects entries. Times are the clock's until the history is taken out, relative to the workload's start.

    `clock` is the harness's, whoever calls: CLOCK_MONOTONIC, unless every process has one of its own. `tap` hears of every
    observation at once, and of its time if that is not now.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, tap: Tap | None = None) -> None:
        self._tap = tap
        self._entries: list[Entry] = []
        self._held: dict[str, set[str]] = {}
        self._clock = clock
        self.began = clock()

    def begin(self) -> None:
        """The workload begins: time zero."""
        self.began = self._clock()
        self.add("harness", history.WORKLOAD_BEGAN, {}, self.began)

    def add(self, source: str, name: str, facts: Mapping[str, Any], at: float | None = None) -> float:
        """Record one observation, made `at` or now; returns its time in seconds since the workload began."""
        moment = self._clock() if at is None else at
        self._entries.append(Entry(moment, source, name, dict(facts)))
        if self._tap is not None:
            self._tap(source, name, facts, at)
        if name in HOLDS:
            self._held.setdefault(source, set()).add(str(facts["workflow"]))
        elif name in LETS_GO:
            self._held.get(source, set()).discard(str(facts["workflow"]))
        elif name == history.EXITED:
            self._held.pop(f"worker {facts['worker']}", None)
        return moment - self.began

    def in_flight(self, worker: int) -> int:
        """How many workflows the worker holds now, by its own reports."""
        return len(self._held.get(f"worker {worker}", ()))

    def now(self) -> float:
        """Seconds since the workload began."""
        return self._clock() - self.began

    def history(self) -> tuple[Entry, ...]:
        """All entries, ordered by time; of one moment in the order of arrival."""
        shifted = (Entry(entry.at - self.began, entry.source, entry.name, entry.facts) for entry in self._entries)
        return tuple(sorted(shifted, key=lambda entry: entry.at))

    def facts_of(self, name: str) -> list[dict[str, Any]]:
        """The facts of all entries of that name so far."""
        return [entry.facts for entry in self._entries if entry.name == name]


class ClientObserver:
    """The engine observer of the harness's own client."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def point(self, name: str, facts: Mapping[str, Any]) -> None:
        self._recorder.add("client", name, facts)
