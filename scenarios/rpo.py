"""What was acknowledged and is missing: the recovery point of a failover, counted from the history and never hidden.

With a failover, the acknowledged is compared with what the standby had before it took any writes; without one, with the
final state. An asynchronous standby may lack what was acknowledged last: that is its promise, and the loss is told by its
size. What the history says of workflows that lost something is not held against the engine then (`forgiven`).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import CheckpointRow, Entry, Evidence, FinalState, WorkflowRow
from duress.scenarios.reading import CLOCKS

SUSPENSIONS = frozenset({observer.SUSPENDED, observer.RELEASED})
# What the engine takes for granted, and cannot know to be different: a claim that was lost is made again.
UNTRUE_AFTER_A_LOSS = frozenset({"the epoch rises with every claim"})
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
    final = _Index(evidence.final)
    standby = _Index(survived.state) if survived else final
    accepted: dict[str, None] = {}  # a set that keeps its order
    steps: dict[tuple[str, str], None] = {}
    outcomes: dict[str, None] = {}
    for entry in _acknowledged(evidence):
        id_ = entry.facts["workflow"]
        # What is heard after the promotion may have been said before it: a reply waits until its reader has the time.
        there = final if survived is None or entry.at > survived.at else standby
        match entry.name:
            case observer.ACCEPTED:
                if entry.facts["number"] not in there.numbers[id_]:
                    accepted[id_] = None
            case observer.CHECKPOINTED:
                row = there.checkpoints.get((id_, entry.facts["step"]))
                if row is None or not _is_it(row, entry, evidence):
                    steps[id_, entry.facts["step"]] = None
            case observer.FINISHED | observer.READ:
                if id_ not in there.rows or there.rows[id_].status == "open":
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
        if entry.name in (observer.WORKER_JOINED, observer.WORKER_RENEWED):
            granted = facts["lease_until"] - evidence.lease - evidence.clock_offset
            known = leases.get(facts["incarnation"], 0.0)
            return bool(granted > survived.at or facts["lease_until"] <= known + CLOCKS)
        if entry.name == history.ALWAYS and after and facts["what"] in UNTRUE_AFTER_A_LOSS:
            return False
        id_ = facts.get("workflow")
        if id_ not in touched:
            return True
        if entry.source.startswith("worker "):
            if entry.name == observer.CLAIMED and facts["claimed_at"] - evidence.clock_offset > survived.at:
                anew.add((entry.source, id_))
            return (entry.source, id_) in anew
        return after or entry.source != "client"

    return replace(evidence, history=tuple(entry for entry in evidence.history if holds(entry)))


def _acknowledged(evidence: Evidence) -> Iterator[Entry]:
    """Acknowledgements, until the final state was read."""
    told = frozenset({observer.ACCEPTED, observer.CHECKPOINTED, observer.FINISHED, observer.READ})
    for entry in evidence.history:
        if entry.name == history.CALM_ENDED:
            return
        if entry.name in told:
            yield entry


def _is_it(row: CheckpointRow, entry: Entry, evidence: Evidence) -> bool:
    """Whether a row is the checkpoint that was acknowledged, and not one that was written in its place later on."""
    mine = row.owner == entry.facts["incarnation"] and row.epoch == entry.facts["epoch"]
    return mine and evidence.when(row.at) <= entry.at + CLOCKS


def _touched(evidence: Evidence) -> set[str]:
    """Workflows of which something that the history tells has not survived, or may not have."""
    survived = evidence.survived
    assert survived is not None
    gone = lost(evidence)
    touched = {*gone.accepted, *gone.outcomes, *(id_ for id_, _ in gone.checkpoints)}
    rows = _Index(survived.state).rows
    for entry in evidence.history:
        id_, facts = entry.facts.get("workflow"), entry.facts
        if entry.name == observer.CLAIMED and facts["claimed_at"] - evidence.clock_offset <= survived.at:
            if id_ not in rows or rows[id_].epoch < facts["epoch"]:
                touched.add(str(id_))
        elif entry.name in SUSPENSIONS and abs(entry.at - survived.at) < DOUBTFUL:
            touched.add(str(id_))
    return touched


class _Index:
    """A state, by what is looked for in it."""

    def __init__(self, state: FinalState) -> None:
        self.numbers: defaultdict[str, set[int]] = defaultdict(set)
        for row in state.workflows:
            self.numbers[row.id].add(row.number)
        self.rows: dict[str, WorkflowRow] = {row.id: row for row in state.workflows}
        self.checkpoints: dict[tuple[str, str], CheckpointRow] = {
            (row.workflow, row.step): row for row in state.checkpoints
        }
