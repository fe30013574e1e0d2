"""What a run's history shows, by who wrote it: the workers themselves, and whoever is the parent of their processes.

Nothing here knows of injectors, or of what they enter in the history.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import Entry
from duress.scenarios.observed import Observed

PREFIX = "client saw "


@dataclass(frozen=True, slots=True)
class Seen:
    """The part of a history that is read here: from the workload's beginning to the end of the calm phase."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, observed: Observed) -> "Seen":
        entries = observed.evidence.history
        end = next(entry.at for entry in entries if entry.name == history.CALM_ENDED)
        kept = (entry for entry in entries if 0 <= entry.at <= end and not entry.name.startswith("fault."))
        return cls(tuple(kept))

    @property
    def words(self) -> list[str]:
        """What workers (in the simulation, the client too) said that they saw, each once, in order."""
        said = (
            str(entry.facts["what"]).removeprefix(PREFIX)
            for entry in self.entries
            if entry.name == history.SOMETIMES and str(entry.facts["what"]).startswith(PREFIX)
        )
        return list(dict.fromkeys(said))

    @property
    def errors(self) -> list[str]:
        return [word for word in self.words if word.startswith("error ")]

    @property
    def workers(self) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.source.startswith("worker "))

    def named(self, name: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.name == name]


Look = Callable[[Seen], str | None]


def said(pattern: str) -> Look:
    """A worker saw something like this."""

    def look(seen: Seen) -> str | None:
        return next((f"a worker saw {word}" for word in seen.words if re.search(pattern, word)), None)

    return look


def killed(seen: Seen) -> str | None:
    ends = [entry for entry in seen.named(history.EXITED) if entry.facts["signal"] == 9 or entry.facts["code"] == 137]
    return f"worker {ends[0].facts['worker']} ended by signal 9" if ends else None


def stopped(seen: Seen) -> str | None:
    left = [entry for entry in seen.named(observer.WORKER_LEFT) if entry.source.startswith("worker ")]
    return f"{left[0].source} left" if left else None


def fenced(seen: Seen) -> str | None:
    """A worker was not let write any more."""
    refused = [*seen.named(observer.FENCED), *seen.named(observer.WORKER_LOST)]
    return "its writes refused" if refused else None


def silent(seconds: float) -> Look:
    """One worker says nothing for so long, and then goes on; others speak meanwhile."""

    def look(seen: Seen) -> str | None:
        for source in {entry.source for entry in seen.workers}:
            times = [entry.at for entry in seen.workers if entry.source == source]
            for before, after in itertools.pairwise(times):
                others = [one for one in seen.workers if before < one.at < after and one.source != source]
                if after - before >= seconds and len(others) > 3:
                    return f"{source} was silent for {after - before:.2f} s"
        return None

    return look


def all_silent(seconds: float) -> Look:
    """No worker says anything for so long."""

    def look(seen: Seen) -> str | None:
        gaps = [two.at - one.at for one, two in itertools.pairwise(seen.workers)]
        return f"all were silent for {max(gaps):.2f} s" if gaps and max(gaps) >= seconds else None

    return look


def late_claims(seconds: float) -> Look:
    """Work that is ready, and that the idle worker takes up only after so long."""

    def look(seen: Seen) -> str | None:
        accepted = {entry.facts["workflow"]: entry.at for entry in seen.named(observer.ACCEPTED)}
        first: dict[str, float] = {}
        for entry in seen.named(observer.CLAIMED):
            first.setdefault(entry.facts["workflow"], entry.at)
        waits = [at - accepted[id_] for id_, at in first.items() if id_ in accepted]
        return f"a start was claimed after {max(waits):.2f} s" if waits and max(waits) >= seconds else None

    return look


def another_server(seen: Seen) -> str | None:
    """The server's own processes are not those that there were: it was started again, or has recovered from a crash."""
    pids = [word for word in seen.words if word.startswith("checkpointer ")]
    return f"workers saw {len(pids)} checkpointers, one after the other" if len(pids) > 1 else None


def ambiguous(present: bool) -> Look:
    """A COMMIT without an answer, which turned out like this."""

    def look(seen: Seen) -> str | None:
        turned = [entry.facts["present"] for entry in seen.named(observer.RESOLVED)]
        if not seen.named(observer.AMBIGUOUS) or present not in turned:
            return None
        return f"a COMMIT went without an answer, and the row was {'present' if present else 'absent'}"

    return look


def both(*looks: Look) -> Look:
    def look(seen: Seen) -> str | None:
        found = [one(seen) for one in looks]
        return None if None in found else ", ".join(filter(None, found))

    return look


def either(*looks: Look) -> Look:
    def look(seen: Seen) -> str | None:
        return next((found for one in looks if (found := one(seen))), None)

    return look
