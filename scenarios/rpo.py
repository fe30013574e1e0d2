"""What was acknowledged and is missing: the recovery point of a failover, counted from the history and never hidden.

With a failover, the acknowledged is compared with what the standby had before it took any writes; without one, with the
final state. An asynchronous standby may lack what was acknowledged last: that is its promise, and the loss is told by its
size. What the history says of workflows that lost something is not held against the engine then (`forgiven`).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from duress.engine import observer
from duress.scenarios.history import CheckpointRow, Entry, Evidence, FinalState, WorkflowRow
from duress.scenarios.reading import CLOCKS

SUSPENSIONS = frozenset({observer.SUSPENDED, observer.RELEASED})
DOUBTFUL = 1.0  # seconds before a loss in which a workflow was handed back; whether that is lost cannot be seen


@dataclass(frozen=True, slots=True)
class Lost:
    """Acknowledged, and missing. `accepted`: starts, by workflow; `outcomes`: ends that a worker or a reader was told."""

    accepted: tuple[str, ...] = ()
    checkpoints: tuple[tuple[str, str], ...] = ()  # (workflow, step)
    outcomes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Acknowledgements that were broken."""
        return len(self.accepted) + len(self.checkpoints) + len(self.outcomes)


def lost(evidence: Evidence) -> Lost:
    """What was acknowledged before the failover (before the end, where there was none) and is missing."""
    survived = evidence.survived
    state = survived.state if survived else evidence.final
    numbers, rows = _workflows(state)
    checkpoints = _checkpoints(state)
    accepted: dict[str, None] = {}  # a set that keeps its order
    steps: dict[tuple[str, str], None] = {}
    outcomes: dict[str, None] = {}
    for entry in _acknowledged(evidence):
        id_ = entry.facts["workflow"]
        match entry.name:
            case observer.ACCEPTED:
                if entry.facts["number"] not in numbers[id_]:
                    accepted[id_] = None
            case observer.CHECKPOINTED:
                row = checkpoints.get((id_, entry.facts["step"]))
                if row is None or not _is_it(row, entry, evidence):
                    steps[id_, entry.facts["step"]] = None
            case observer.FINISHED | observer.READ:
                if id_ not in rows or rows[id_].status == "open":
                    outcomes[id_] = None
    return Lost(tuple(accepted), tuple(steps), tuple(outcomes))


def excused(evidence: Evidence) -> bool:
    """Whether a loss breaks no promise: there was a failover to an asynchronous standby."""
    return evidence.survived is not None and evidence.survived.mode == "async"


def forgiven(evidence: Evidence) -> Evidence:
    """The evidence without what an asynchronous standby made untrue: what was said of workflows that lost something, by
    clients before the failover and by the claims of before it for as long as they go on; joinings that it has not heard of;
    and leases that end later than it knows.
    """
    survived = evidence.survived
    if survived is None or not excused(evidence):
        return evidence
    touched = _touched(evidence)
    leases = {row.incarnation: row.lease_until for row in survived.state.workers}

    anew: set[tuple[str, str]] = set()  # (source, workflow): claimed after the failover

    def holds(entry: Entry) -> bool:
        facts, after = entry.facts, entry.at > survived.at
        if not after and entry.name in (observer.WORKER_JOINED, observer.WORKER_RENEWED):
            return facts["incarnation"] in leases and facts["lease_until"] <= leases[facts["incarnation"]] + CLOCKS
        id_ = facts.get("workflow")
        if id_ not in touched:
            return True
        if entry.source.startswith("worker "):
            if after and entry.name == observer.CLAIMED:
                anew.add((entry.source, id_))
            return (entry.source, id_) in anew
        return after or entry.source != "client"

    return replace(evidence, history=tuple(entry for entry in evidence.history if holds(entry)))


def _acknowledged(evidence: Evidence) -> Iterator[Entry]:
    """Acknowledgements, while they are to be found in the state that they are compared with."""
    survived = evidence.survived
    told = frozenset({observer.ACCEPTED, observer.CHECKPOINTED, observer.FINISHED, observer.READ})
    for entry in evidence.history:
        if survived is not None and entry.at > survived.at:
            return
        if entry.name == "calm.ended":
            return  # the final state was read then
        if entry.name in told:
            yield entry


def _is_it(row: CheckpointRow, entry: Entry, evidence: Evidence) -> bool:
    """Whether a row is the checkpoint that was acknowledged, and not one that was written in its place later on."""
    mine = row.owner == entry.facts["incarnation"] and row.epoch == entry.facts["epoch"]
    return mine and row.at - evidence.clock_offset <= entry.at + CLOCKS


def _touched(evidence: Evidence) -> set[str]:
    """Workflows of which something that the history tells has not survived, or may not have."""
    survived = evidence.survived
    assert survived is not None
    gone = lost(evidence)
    touched = {*gone.accepted, *gone.outcomes, *(id_ for id_, _ in gone.checkpoints)}
    _, rows = _workflows(survived.state)
    for entry in evidence.history:
        if entry.at > survived.at:
            break
        id_ = entry.facts.get("workflow")
        if entry.name == observer.CLAIMED and (id_ not in rows or rows[id_].epoch < entry.facts["epoch"]):
            touched.add(str(id_))
        if entry.name in SUSPENSIONS and entry.at > survived.at - DOUBTFUL:
            touched.add(str(id_))
    return touched


def _workflows(state: FinalState) -> tuple[dict[str, set[int]], dict[str, WorkflowRow]]:
    numbers: dict[str, set[int]] = defaultdict(set)
    for row in state.workflows:
        numbers[row.id].add(row.number)
    return numbers, {row.id: row for row in state.workflows}


def _checkpoints(state: FinalState) -> dict[tuple[str, str], CheckpointRow]:
    return {(row.workflow, row.step): row for row in state.checkpoints}
