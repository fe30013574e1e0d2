"""T1: nothing that waits for a time goes on before it, by the database's clock."""

from collections.abc import Iterator

from duress.engine import observer
from duress.scenarios.history import CheckpointRow
from duress.scenarios.invariants.invariant import Invariant, Sighting, later
from duress.scenarios.invariants.steps import place
from duress.scenarios.reading import Reading

EXACT = 1e-5  # seconds; a time as a double, written and read back


def not_early(reading: Reading) -> Iterator[Sighting]:
    """Compares times of the database's clock only: when a sleep was said to be over, and when a later step was written."""
    for id_, steps in reading.checkpoints.items():
        for rows in steps.values():
            if rows and rows[0].kind == "sleep":
                yield from _of_sleep(reading, id_, rows[0])


def _of_sleep(reading: Reading, id_: str, sleep: CheckpointRow) -> Iterator[Sighting]:
    due_at = float(sleep.value)
    for entry in reading.entries.get(id_, ()):
        facts = entry.facts
        if entry.name == observer.FIRED and facts["step"] == sleep.step and facts["at"] < due_at - EXACT:
            yield Sighting(
                id_,
                f"Step {sleep.step} (sleep) of {id_} was over under epoch {facts['epoch']} ({entry.source})"
                f" {later(due_at - facts['at'])} before its time.",
            )
            return
    path, ordinal = place(sleep.step)
    after = [
        row
        for step, rows in reading.checkpoints[id_].items()
        for row in rows
        if place(step)[0] == path and place(step)[1] > ordinal
    ]
    soonest = min(after, key=lambda row: row.at, default=None)
    if soonest is not None and soonest.at < due_at - EXACT:
        yield Sighting(
            id_,
            f"Step {soonest.step} ({soonest.name}) of {id_} was durable under epoch {soonest.epoch}"
            f" {later(due_at - soonest.at)} before the sleep of step {sleep.step} was over.",
        )


NOT_EARLY = Invariant("T1", "not-early", "No sleep is over before its time, by the database's clock.", not_early)
