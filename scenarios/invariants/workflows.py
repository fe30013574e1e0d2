"""W1 to W3: what is promised to whoever starts a workflow."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from duress.engine import observer
from duress.scenarios.history import Entry
from duress.scenarios.invariants.invariant import Invariant, Sighting, seconds
from duress.scenarios.reading import Reading


def start_once(reading: Reading) -> Iterator[Sighting]:
    for id_, rows in reading.workflows.items():
        if len(rows) > 1:
            numbers = " and ".join(str(row.number) for row in rows)
            yield Sighting(
                id_,
                f"Workflow {id_} exists {len(rows)} times, under the numbers {numbers}: each start of it began another"
                " one.",
            )


def one_outcome(reading: Reading) -> Iterator[Sighting]:
    yield from _ended_once(reading)
    reads: dict[str, list[Entry]] = defaultdict(list)
    for entry in reading.evidence.history:
        if entry.name == observer.READ:
            reads[entry.facts["workflow"]].append(entry)
    for id_, seen in reads.items():
        first = seen[0]
        for entry in seen[1:]:
            if _read(entry) != _read(first):
                yield Sighting(
                    id_,
                    f"Workflow {id_} was read as {_words(first)} {seconds(first.at)} and as {_words(entry)}"
                    f" {seconds(entry.at)}: its outcome changed.",
                )
                break
        yield from _kept(reading, id_, seen[-1])


def _ended_once(reading: Reading) -> Iterator[Sighting]:
    """An outcome is written once, so only one claim can have been told that it wrote it."""
    for id_, entries in reading.entries.items():
        ends = [entry for entry in entries if entry.name == observer.FINISHED]
        for one, two in pairwise(ends):
            if one.facts["epoch"] != two.facts["epoch"]:
                yield Sighting(
                    id_,
                    f"Workflow {id_} was finished twice: as {one.facts['status']} under epoch {one.facts['epoch']}"
                    f" {seconds(one.at)} ({one.source}), and as {two.facts['status']} under epoch {two.facts['epoch']}"
                    f" {seconds(two.at)} ({two.source}).",
                )
        rows = reading.workflows.get(id_, [])
        if ends and len(rows) == 1 and rows[0].status != ends[-1].facts["status"]:
            yield Sighting(
                id_,
                f"Workflow {id_} was durably finished as {ends[-1].facts['status']} under epoch"
                f" {ends[-1].facts['epoch']} {seconds(ends[-1].at)}, and is {rows[0].status} at the end.",
            )


def _kept(reading: Reading, id_: str, read: Entry) -> Iterator[Sighting]:
    """What a client has read is what stands in the database at the end."""
    rows = reading.workflows.get(id_, [])
    if not rows:
        yield Sighting(
            id_, f"Workflow {id_} was read as {_words(read)} {seconds(read.at)}, and does not exist at the end."
        )
    elif all((row.status, digest(row.outcome)) != _read(read) for row in rows):
        yield Sighting(
            id_,
            f"Workflow {id_} was read as {_words(read)} {seconds(read.at)}, and ended as {rows[0].status}"
            f" (outcome {digest(rows[0].outcome)}): its outcome changed.",
        )


def digest(outcome: str | None) -> str:
    """The fingerprint of an outcome, as the engine tells it when the outcome is read."""
    return hashlib.sha256((outcome or "").encode()).hexdigest()[:16]


def _read(entry: Entry) -> tuple[str, str]:
    return entry.facts["status"], entry.facts["digest"]


def _words(entry: Entry) -> str:
    return f"{entry.facts['status']} (outcome {entry.facts['digest']})"


def none_lost(reading: Reading) -> Iterator[Sighting]:
    if reading.ended is None or not _somebody_worked(reading):
        return
    for id_, accepted in reading.accepted.items():
        rows = reading.workflows.get(id_, [])
        if not rows:
            yield Sighting(
                id_, f"Workflow {id_} was accepted {seconds(accepted)}, and the database does not know it at the end."
            )
        elif all(row.status == "open" for row in rows):
            yield Sighting(
                id_,
                f"Workflow {id_} was accepted {seconds(accepted)} and has no outcome at the end of the calm phase"
                f" ({reading.ended:.1f} s). {_last_seen(reading, id_)}",
            )


def _somebody_worked(reading: Reading) -> bool:
    """A calm phase through which no worker lived proves nothing."""
    assert reading.ended is not None
    return any(
        incarnation.joined < reading.ended and incarnation.gone >= reading.ended
        for incarnation in reading.incarnations.values()
    )


def _last_seen(reading: Reading, id_: str) -> str:
    entries = reading.entries.get(id_)
    if not entries:
        return "No worker ever claimed it."
    last = entries[-1]
    return f"It was last heard of {seconds(last.at)}: {last.name} under epoch {last.facts['epoch']} ({last.source})."


START_ONCE = Invariant("W1", "start-once", "One workflow per id, whoever starts it and however often.", start_once)
ONE_OUTCOME = Invariant("W2", "one-outcome", "One final outcome; every reader, whenever, sees the same.", one_outcome)
NONE_LOST = Invariant(
    "W3",
    "none-lost",
    "Every workflow whose start was acknowledged has an outcome at the end of the calm phase.",
    none_lost,
)
