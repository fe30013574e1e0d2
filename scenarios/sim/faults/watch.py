"""What a worker's connections have been through since a moment, as the network counts it where it happens."""

from collections import Counter
from dataclasses import replace

from duress.faults.plan import CommitPoint
from duress.simulator import Run


class TrafficWatch:
    """Each method says what it sees, or None. What was so before the watch began is no sighting."""

    def __init__(self, run: Run, process: str) -> None:
        self._process = process
        self._now = run.network.traffic(process)
        self._then = replace(self._now, cuts=Counter(self._now.cuts), errors=Counter(self._now.errors))

    def lost(self) -> str | None:
        count = self._now.lost - self._then.lost
        return f"{count} connections of {self._process} ended under it" if count else None

    def refused(self) -> str | None:
        return self._said("refused", "a connection of {} was refused")

    def withheld(self) -> str | None:
        return self._said("withheld", "something between {} and PostgreSQL does not arrive")

    def late(self) -> str | None:
        return self._said("late", "something between {} and PostgreSQL takes longer than ever")

    def deaf(self) -> str | None:
        return self._said("notifications_lost", "a notification did not reach {}")

    def cut(self, point: CommitPoint) -> str | None:
        happened = self._now.cuts[point] > self._then.cuts[point]
        return f"a connection of {self._process} was lost at a COMMIT, {point}" if happened else None

    def error(self, *codes: str) -> str | None:
        """Whether PostgreSQL has sent it an error with one of these SQLSTATEs."""
        for code in codes:
            if self._now.errors[code] > self._then.errors[code]:
                return f"{self._process} was sent {code}"
        return None

    def _said(self, counter: str, words: str) -> str | None:
        more = getattr(self._now, counter) > getattr(self._then, counter)
        return words.format(self._process) if more else None
