"""What an invariant is, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from duress.scenarios.history import Evidence
from duress.scenarios.reading import Reading


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen, and the workflow that it is about, if it is about one."""

    workflow: str | None
    message: str


class MissingTable(LookupError):
    """A scenario names an invariant that is judged by a table, and does not give that table."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: one or two sentences that name what was seen."""

    invariant: str
    title: str
    message: str
    workflow: str | None


@dataclass(frozen=True, slots=True)
class Invariant:
    """A promise, and how to see it broken. `look` yields sightings; none: it held as far as anybody could see.

    What is unknown (a start whose answer was lost, a commit of a killed worker) is allowed both ways.
    """

    id: str
    title: str
    promise: str
    look: Callable[[Reading], Iterator[Sighting]]
    tables: tuple[str, ...] = ()  # of the scenario's own, without which nothing can be seen

    def check(self, evidence: Evidence) -> list[Finding]:
        """All findings in one run's evidence."""
        return self.find(Reading(evidence))

    def find(self, reading: Reading) -> list[Finding]:
        """The same, of evidence that was read already. Raises MissingTable rather than see nothing."""
        for table in self.tables:
            if table not in reading.evidence.final.tables:
                raise MissingTable(
                    f"{self.id} ({self.title}) is judged by the scenario's table {table!r}, which is not among its tables:"
                    f" {', '.join(reading.evidence.final.tables) or 'it has none'}"
                )
        return [Finding(self.id, self.title, seen.message, seen.workflow) for seen in self.look(reading)]


def seconds(moment: float) -> str:
    """A time of the history, in words."""
    return f"at {moment:.4f} s"


def later(seconds_: float) -> str:
    """A span between two moments of one clock, in words: "41.2 ms"."""
    return f"{seconds_ * 1000:.1f} ms" if abs(seconds_) < 1 else f"{seconds_:.2f} s"
