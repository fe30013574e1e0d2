"""A1: what the code says that must always hold, in every scenario."""

from collections.abc import Iterator

from duress.scenarios import history
from duress.scenarios.invariants.invariant import Invariant, Sighting, seconds
from duress.scenarios.reading import Reading


def always(reading: Reading) -> Iterator[Sighting]:
    seen: set[str] = set()
    for entry in reading.evidence.history:
        if entry.name == history.ALWAYS and not entry.facts["holds"] and entry.facts["what"] not in seen:
            seen.add(entry.facts["what"])
            yield Sighting(
                None, f"{entry.source} found {seconds(entry.at)} that this does not hold: {entry.facts['what']}."
            )


ALWAYS = Invariant("A1", "always", "What the code under test says by `always` holds each time it is reached.", always)
