"""R1: what was acknowledged is there."""

from collections.abc import Iterator

from duress.scenarios.invariants.invariant import Invariant, Sighting
from duress.scenarios.invariants.steps import place
from duress.scenarios.reading import Reading
from duress.scenarios.rpo import Lost, excused, lost


def acknowledged_is_there(reading: Reading) -> Iterator[Sighting]:
    """An asynchronous standby may lack it after a failover: then nothing may be built on what is missing."""
    evidence = reading.evidence
    where = "on the standby when it was promoted" if evidence.survived else "at the end"
    gone = lost(evidence)
    if not excused(evidence):
        for id_ in gone.accepted:
            yield Sighting(id_, f"The start of {id_} was acknowledged, and is missing {where}.")
        for id_, step in gone.checkpoints:
            yield Sighting(id_, f"The checkpoint of step {step} of {id_} was acknowledged, and is missing {where}.")
        for id_ in gone.outcomes:
            yield Sighting(id_, f"The outcome of {id_} was acknowledged, and is missing {where}.")
    yield from _on_top(reading, gone)


def _on_top(reading: Reading, gone: Lost) -> Iterator[Sighting]:
    """A checkpoint that stands on one that was lost: written when that was not there again."""
    for id_, step in gone.checkpoints:
        path, ordinal = place(step)
        again = reading.row(id_, step)
        for rows in reading.checkpoints.get(id_, {}).values():
            for row in rows:
                on_top = place(row.step)[0] == path and place(row.step)[1] > ordinal
                if on_top and (again is None or row.at < again.at):
                    yield Sighting(
                        id_,
                        f"Step {row.step} ({row.name}) of {id_} was recorded under epoch {row.epoch} when step {step}"
                        " before it was lost, and not there again.",
                    )


RECOVERY_POINT = Invariant(
    "R1",
    "rpo",
    "Nothing acknowledged is missing; across a failover to an asynchronous standby, nothing is built on what is.",
    acknowledged_is_there,
)
