"""The ordered record of what was observed in one run, kept outside the database under test, and the evidence it is judged by.

`at` is seconds since the workload began by the harness's monotonic clock (CLOCK_MONOTONIC is one clock for all processes
of a machine: the workers stamp their own entries). Facts that end in `_at` or `_until` are the database's clock, seconds
since 1970. `Evidence` joins the history with the final state of the database and of the receiver.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from duress.scenarios.receiver import Request

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One observation. `source` is "worker 0", "client", "receiver" or "harness"; `name` an engine point or one below."""

    at: float
    source: str
    name: str
    facts: Facts


# Entries of the harness. worker = its number; pid of its process.
SPAWNED = "process.spawned"  # worker, pid
EXITED = "process.exited"  # worker, pid, signal (or None), code (or None)
FAULT_ASKED = "fault.asked"  # index (in the plan), kind, worker
FAULT_EFFECT = "fault.effect"  # index, kind, worker, confirmed_by
FAULT_HEALED = "fault.healed"  # index, kind, worker
WORKLOAD_BEGAN = "workload.began"
CALM_BEGAN = "calm.began"  # the last fault has healed; from here everything must finish
CALM_ENDED = "calm.ended"  # unfinished (how many acknowledged workflows have no outcome)
# Entries of code that says something of itself, whoever runs it; each text once in a process, but every broken `always`.
ALWAYS = "code.always"  # what, holds
SOMETIMES = "code.sometimes"  # what, holds (True)
# Entries of the receiver (a process outside the database that plain steps call).
RECEIVED = "receiver.request"  # key, workflow, step, attempt, epoch, applied (bool: False for a repeated key), purpose


def received(request: Request, *, applied: bool) -> tuple[str, Facts]:
    """The name and the facts of the entry for one request."""
    return RECEIVED, {
        "key": request.key,
        "workflow": request.workflow,
        "step": request.step,
        "attempt": request.attempt,
        "epoch": request.epoch,
        "applied": applied,
        "purpose": request.purpose,
    }


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    number: int
    id: str
    name: str
    status: str  # "open" while unfinished; "succeeded" | "failed" | "cancelled" | "dead"
    outcome: str | None  # JSON text
    epoch: int
    owner: int | None = None  # incarnation of the worker that wrote the outcome
    finished_at: float | None = None  # clock_timestamp() within the write


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    number: int  # of its workflow
    workflow: str  # id
    step: str
    name: str
    kind: str  # "step" | "transaction" | "sleep" | "race"
    failed: bool
    value: str  # JSON text
    owner: int  # incarnation of the worker that wrote it
    epoch: int
    at: float  # clock_timestamp() within the write


@dataclass(frozen=True, slots=True)
class WorkerRow:
    incarnation: int
    name: str
    joined_at: float
    lease_until: float
    ended_at: float | None
    end_reason: str | None


@dataclass(frozen=True, slots=True)
class FinalState:
    """The engine's tables and the scenario's own, read after the calm phase."""

    workflows: tuple[WorkflowRow, ...]
    checkpoints: tuple[CheckpointRow, ...]
    workers: tuple[WorkerRow, ...]
    tables: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)  # the scenario's tables, by name


@dataclass(frozen=True, slots=True)
class Survived:
    """What the standby of a lost primary had, read before it took any writes. `at` is when the primary was lost."""

    mode: Literal["sync", "async"]
    at: float
    state: FinalState


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the checkers of one run may look at."""

    seed: int
    history: tuple[Entry, ...]  # ordered by `at`
    final: FinalState
    clock_offset: float  # database clock (seconds since 1970) minus `at`, at first
    lease: float  # seconds, as the workers were configured
    workers: int
    survived: Survived | None = None  # None where there was no failover
    clock_jumps: tuple[
        tuple[float, float], ...
    ] = ()  # (`at`, by how many seconds the database's clock was set forward)

    def when(self, database: float) -> float:
        """`at` of a time of the database's clock. One that it left out was when it jumped."""
        moment = database - self.clock_offset
        for at, seconds in self.clock_jumps:
            if moment >= at:
                moment = max(at, moment - seconds)
        return moment
