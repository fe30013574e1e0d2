"""Evidence, read once: who held which workflow, which process was which incarnation, which faults struck when.

Everything here is what the history and the tables say; nothing is judged. Times are the history's (seconds since the
workload began) unless a name ends in `_at` or `_until`: those are the database's clock.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from duress.engine import observer
from duress.faults.worlds import HARMFUL
from duress.scenarios import history
from duress.scenarios.history import CheckpointRow, Entry, Evidence, WorkflowRow

OUTAGES = HARMFUL  # all workers suffer them: their sessions are lost, or stand still
# A worker's sessions may all be lost, or be given up by itself, though it lives.
SEVERING = frozenset({"drop-connection", "refuse-connections", "partition", "slow-link", "read-only", "pooler"})
ENDING = frozenset({"kill-worker", "stop-worker"})  # the worker's process ends
CLOCKS = 0.01  # seconds by which a moment of the history may be off on the database's clock
# How a worker says that it let one workflow go.
LETS_GO = {
    observer.FINISHED: "finished",
    observer.SUSPENDED: "suspended",
    observer.RELEASED: "released",
    observer.FENCED: "fenced",
}


@dataclass(slots=True)
class Process:
    """One process of a worker. `ended` is when its end was seen, a little after it happened."""

    worker: int
    pid: int
    began: float
    ended: float = math.inf
    incarnations: "list[Incarnation]" = field(default_factory=list)


@dataclass(slots=True)
class Incarnation:
    """One membership of a process: from joining until it left, was declared dead, or the process ended."""

    number: int
    process: Process
    joined: float
    gone: float = math.inf
    leases: list[float] = field(default_factory=list)  # each lease_until that it was granted

    @property
    def worker(self) -> int:
        return self.process.worker


@dataclass(slots=True)
class Holding:
    """One claim of a workflow, and how it ended by the holder's own account.

    `how`: a value of `LETS_GO`, "superseded" (the same worker claimed it again), "gone" (its incarnation or process
    ended), or None to the end of the history.
    """

    workflow: str
    epoch: int
    incarnation: int
    worker: int
    began: float
    claimed_at: float
    checkpoints: int  # how many came along
    ended: float = math.inf
    how: str | None = None


@dataclass(slots=True)
class Seen:
    """One fault that was injected."""

    index: int
    kind: str
    worker: int
    asked: float
    effect: float | None = None
    healed: float | None = None

    @property
    def over(self) -> float:
        """When it was over, at the latest known moment; the end of time for one that never healed."""
        if self.healed is not None:
            return self.healed
        return math.inf if self.kind in ENDING else self.effect if self.effect is not None else self.asked


class Reading:
    """One run's evidence with its indices."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.entries: dict[str, list[Entry]] = defaultdict(list)  # workflow → what workers said about it, in order
        self.received: dict[tuple[str, str], list[Entry]] = defaultdict(list)  # (workflow, step) → requests
        self.accepted: dict[str, float] = {}  # workflow → when a client was first told that it is accepted
        self.finished: dict[str, float] = {}  # workflow → when its outcome was durable, as far as workers told
        self.processes: list[Process] = []
        self.incarnations: dict[int, Incarnation] = {}
        self.holdings: dict[str, list[Holding]] = defaultdict(list)  # workflow → claims by epoch
        self.faults: list[Seen] = []
        self.began = 0.0
        self.calm: float | None = None
        self.ended: float | None = None  # the end of the calm phase
        self._current: dict[int, Process] = {}
        self._held: dict[tuple[int, str], Holding] = {}
        for entry in evidence.history:
            if self.ended is None:  # the final state was read then: what workers did later is not in it
                self._read(entry)
        for holdings in self.holdings.values():
            holdings.sort(key=lambda holding: (holding.epoch, holding.began))
        self.faults.sort(key=lambda fault: fault.index)
        self.workflows: dict[str, list[WorkflowRow]] = defaultdict(list)
        for workflow in evidence.final.workflows:
            self.workflows[workflow.id].append(workflow)
        self.checkpoints: dict[str, dict[str, list[CheckpointRow]]] = defaultdict(lambda: defaultdict(list))
        for row in evidence.final.checkpoints:
            self.checkpoints[row.workflow][row.step].append(row)
        for id_, entries in self.entries.items():
            if any(row.status != "open" for row in self.workflows.get(id_, ())):
                self.finished.setdefault(id_, entries[-1].at)  # its worker did not live to tell

    @property
    def end(self) -> float:
        """When the run was over as far as it is judged."""
        last = self.evidence.history[-1].at if self.evidence.history else 0.0
        return last if self.ended is None else self.ended

    def at(self, database: float) -> float:
        """A time of the database's clock on the history's."""
        return self.evidence.when(database)

    def row(self, workflow: str, step: str) -> CheckpointRow | None:
        """The checkpoint of a step; the first, if there are several."""
        rows = self.checkpoints[workflow][step] if workflow in self.checkpoints else []
        return rows[0] if rows else None

    def claim(self, workflow: str, epoch: int) -> Holding | None:
        """The claim that raised a workflow's epoch to `epoch`, if its worker lived to tell."""
        return next((held for held in self.holdings.get(workflow, ()) if held.epoch == epoch), None)

    def all_holdings(self) -> Iterator[Holding]:
        for holdings in self.holdings.values():
            yield from holdings

    def held_at(self, moment: float, worker: int | None = None) -> list[Holding]:
        """What a worker, or everybody, held at a moment, as far as anybody knew."""
        return [
            held for held in self.all_holdings() if held.began <= moment < held.ended and worker in (held.worker, None)
        ]

    def _read(self, entry: Entry) -> None:
        if entry.source.startswith("worker "):
            self._read_worker(entry, int(entry.source.removeprefix("worker ")))
        elif entry.source == "harness":
            self._read_harness(entry)
        elif entry.name == observer.ACCEPTED:
            self.accepted.setdefault(entry.facts["workflow"], entry.at)
        elif entry.name == history.RECEIVED:
            self.received[entry.facts["workflow"], entry.facts["step"]].append(entry)

    def _read_harness(self, entry: Entry) -> None:
        facts = entry.facts
        match entry.name:
            case history.SPAWNED:
                process = Process(facts["worker"], facts["pid"], entry.at)
                self.processes.append(process)
                self._current[facts["worker"]] = process
            case history.EXITED:
                for process in self.processes:
                    if process.pid == facts["pid"] and process.worker == facts["worker"] and math.isinf(process.ended):
                        process.ended = entry.at
                        self._let_go_all(process.worker, entry.at)
                        for incarnation in process.incarnations:
                            incarnation.gone = min(incarnation.gone, entry.at)
            case history.FAULT_ASKED:
                self.faults.append(Seen(facts["index"], facts["kind"], facts["worker"], entry.at))
            case history.FAULT_EFFECT | history.FAULT_HEALED:
                self._fault(entry)
            case history.WORKLOAD_BEGAN:
                self.began = entry.at
            case history.CALM_BEGAN:
                self.calm = entry.at
            case history.CALM_ENDED:
                self.ended = entry.at

    def _fault(self, entry: Entry) -> None:
        facts = entry.facts
        fault = next((one for one in self.faults if one.index == facts["index"]), None)
        if fault is None:  # of one moment, in whatever order
            fault = Seen(facts["index"], facts["kind"], facts["worker"], entry.at)
            self.faults.append(fault)
        if entry.name == history.FAULT_EFFECT:
            fault.effect = entry.at
        else:
            fault.healed = entry.at

    def _read_worker(self, entry: Entry, worker: int) -> None:
        facts = entry.facts
        if "workflow" in facts:
            self.entries[facts["workflow"]].append(entry)
        match entry.name:
            case observer.WORKER_JOINED:
                process = self._current.get(worker) or Process(worker, 0, entry.at)
                self._let_go_all(worker, entry.at)
                incarnation = Incarnation(facts["incarnation"], process, entry.at, leases=[facts["lease_until"]])
                process.incarnations.append(incarnation)
                self.incarnations[incarnation.number] = incarnation
            case observer.WORKER_RENEWED:
                if facts["incarnation"] in self.incarnations:
                    self.incarnations[facts["incarnation"]].leases.append(facts["lease_until"])
            case observer.WORKER_LOST | observer.WORKER_LEFT:
                self._let_go_all(worker, entry.at)
                if facts["incarnation"] in self.incarnations:
                    self.incarnations[facts["incarnation"]].gone = entry.at
            case observer.CLAIMED:
                self._let_go(worker, facts["workflow"], entry.at, "superseded")
                held = Holding(
                    workflow=facts["workflow"],
                    epoch=facts["epoch"],
                    incarnation=facts["incarnation"],
                    worker=worker,
                    began=entry.at,
                    claimed_at=facts["claimed_at"],
                    checkpoints=facts.get("checkpoints", 0),
                )
                self._held[worker, held.workflow] = held
                self.holdings[held.workflow].append(held)
            case name if name in LETS_GO:
                if name == observer.FINISHED:
                    self.finished.setdefault(facts["workflow"], entry.at)
                held_now = self._held.get((worker, facts["workflow"]))
                if held_now is not None and held_now.epoch == facts["epoch"]:
                    self._let_go(worker, facts["workflow"], entry.at, LETS_GO[name])

    def _let_go(self, worker: int, workflow: str, at: float, how: str) -> None:
        if (held := self._held.pop((worker, workflow), None)) is not None:
            held.ended, held.how = at, how

    def _let_go_all(self, worker: int, at: float) -> None:
        for holder, workflow in list(self._held):
            if holder == worker:
                self._let_go(worker, workflow, at, "gone")
