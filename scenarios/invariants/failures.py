"""S7: a step that is recorded as failed has failed by its own doing."""

import json
from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import errors

from duress.scenarios.invariants.invariant import Invariant, Sighting
from duress.scenarios.reading import Reading

# Classes of SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html) that say nothing of the step: its
# connection, its transaction's luck against others, and the server's state.
_PASSING: Final = ("08", "40", "53300", "55P03", "57P", "25006", "25P03")


def _names() -> frozenset[str]:
    found = {
        error.__name__
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, psycopg.Error) and (error.sqlstate or "").startswith(_PASSING)
    }
    return frozenset(found | {"OperationalError", "InterfaceError", "TransactionContended"})


PASSING: Final = _names()


def own_failure(reading: Reading) -> Iterator[Sighting]:
    for row in reading.evidence.final.checkpoints:
        if not row.failed:
            continue
        failure = json.loads(row.value)
        error = failure.get("type") if isinstance(failure, dict) else None
        if error in PASSING:
            yield Sighting(
                row.workflow,
                f"Step {row.step} ({row.name}) of {row.workflow} failed by {error} under epoch {row.epoch}, and that was"
                " recorded: it passes, and the step was to be tried again.",
            )


OWN_FAILURE = Invariant(
    "S7", "own-failure", "A lost race, a lost connection or a server that goes away is no step's failure.", own_failure
)
