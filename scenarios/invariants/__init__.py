"""The promises, by id, and the judge.

Checkers read the history, which is kept outside the database under test, and the final state of the database and of the
receiver. They know no world: the same evidence is judged the same way wherever it comes from.
"""

from collections.abc import Iterable
from typing import Final

from duress.scenarios import rpo
from duress.scenarios.history import Evidence
from duress.scenarios.invariants.always import ALWAYS
from duress.scenarios.invariants.conservation import CONSERVED
from duress.scenarios.invariants.failures import OWN_FAILURE
from duress.scenarios.invariants.fencing import FENCED, NO_HOSTAGE, ONE_OWNER
from duress.scenarios.invariants.invariant import Finding, Invariant, MissingTable
from duress.scenarios.invariants.liveness import PROGRESS
from duress.scenarios.invariants.recovery_point import RECOVERY_POINT
from duress.scenarios.invariants.steps import CHECKPOINT_ONCE, EFFECT_ONCE, NO_RERUN, ORDERED, SAME_KEY, SAME_PATH
from duress.scenarios.invariants.timers import NOT_EARLY
from duress.scenarios.invariants.workflows import NONE_LOST, ONE_OUTCOME, START_ONCE
from duress.scenarios.reading import Reading

__all__ = ["INVARIANTS", "MOST_FINDINGS", "Finding", "Invariant", "MissingTable", "UnknownInvariant", "judge", "titles"]

ALL: Final = (
    *(START_ONCE, ONE_OUTCOME, NONE_LOST),
    *(CHECKPOINT_ONCE, NO_RERUN, EFFECT_ONCE, SAME_KEY, ORDERED, SAME_PATH),
    OWN_FAILURE,
    *(FENCED, ONE_OWNER, NO_HOSTAGE),
    NOT_EARLY,
    CONSERVED,
    PROGRESS,
    RECOVERY_POINT,
    ALWAYS,
)
INVARIANTS: Final = {invariant.id: invariant for invariant in ALL}
MOST_FINDINGS: Final = 20  # of one invariant in one run; a thousand would say no more


class UnknownInvariant(LookupError):
    """A scenario names an invariant that nobody can check."""


def judge(evidence: Evidence, ids: Iterable[str]) -> list[Finding]:
    """All findings of these invariants and of A1, in their order. Raises UnknownInvariant and MissingTable."""
    chosen = [*(_known(id_) for id_ in ids if id_ != ALWAYS.id), ALWAYS]
    reading = Reading(evidence)
    forgiven = Reading(rpo.forgiven(evidence)) if rpo.excused(evidence) else reading
    # Entries name a workflow by its id. Where two carry one id, what is said of one would be held against the other.
    ambiguous = {id_ for id_, rows in reading.workflows.items() if len(rows) > 1}
    findings: list[Finding] = []
    for invariant in chosen:
        found = invariant.find(reading if invariant is RECOVERY_POINT else forgiven)
        kept = [finding for finding in found if invariant is START_ONCE or finding.workflow not in ambiguous]
        findings += kept[:MOST_FINDINGS]
    return findings


def titles(ids: Iterable[str]) -> dict[str, str]:
    """Id → title, for a report. Raises UnknownInvariant."""
    return {id_: _known(id_).title for id_ in ids}


def _known(id_: str) -> Invariant:
    if id_ not in INVARIANTS:
        raise UnknownInvariant(f"no invariant has the id {id_!r}; there is {', '.join(INVARIANTS)}")
    return INVARIANTS[id_]
