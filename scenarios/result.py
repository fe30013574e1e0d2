"""What a campaign found: the one source of every report, written as versioned JSON.

Times are seconds since the run's workload began, by the harness's monotonic clock, unless a name ends in `_at`.
"""

from typing import Literal

import msgspec

ENOUGH = 100  # runs; a smaller campaign is never inconclusive for what did not happen in it
RESULT_VERSION = 1

Verdict = Literal["pass", "fail", "inconclusive"]


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Size(Struct, frozen=True, kw_only=True):
    """How large a simulated run is, in what shrinking makes less."""

    faults: int
    workflows: int
    workers: int
    events: int  # in its history
    choices: int  # decisions other than asyncio's order and the least latency


class Shrunk(Struct, frozen=True, kw_only=True):
    """A failing run made smaller, for as long as it breaks the same invariant."""

    invariant: str
    seed: int  # of the run that was found
    message: str  # what is broken in the small run
    before: Size
    after: Size
    faults: tuple[str, ...]  # as sentences
    story: tuple[str, ...]  # what happened, numbered, worker by worker
    instead: tuple[str, ...] = ()  # what the nearest run that breaks nothing does instead
    token: str
    reproduce: str  # ONE line to paste
    runs: int  # that were tried
    seconds: float
    complete: bool  # no fault and no piece of the work can be left out; False: the time was up before that was known


class Violation(Struct, frozen=True, kw_only=True):
    """One broken invariant in one run."""

    invariant: str  # "S2"
    title: str  # "no-rerun"
    seed: int
    message: str  # one or two sentences: what was seen, on which workflow and step, under which epochs
    reproduce: str  # ONE line to paste
    story: tuple[str, ...] = ()  # what happened to the workflow, line by line
    shrunk: Shrunk | None = None  # of the first run of a campaign that breaks this invariant


class Recovery(Struct, frozen=True, kw_only=True):
    """How one fault was recovered from; phases as in invariants.md, seconds after the injection, None = not seen."""

    noticed: float | None = None
    reclaimed: float | None = None
    first: float | None = None
    steady: float | None = None
    drained: float | None = None
    affected: int = 0  # workflows that the victim had in flight


class FaultRecord(Struct, frozen=True, kw_only=True):
    """One planned fault and what became of it."""

    kind: str
    worker: int | None
    trigger: str  # readable: "at 0.4 s", "before the 2nd step.checkpointing of charge"
    asked: float | None = None  # the trigger was pulled
    effect: float | None = None  # it took effect, as confirmed by observation
    healed: float | None = None
    confirmed_by: str | None = None  # what was observed: "/proc/123 is gone"
    recovery: Recovery = Recovery()

    @property
    def fired(self) -> bool:
        return self.effect is not None


class Span(Struct, frozen=True, kw_only=True):
    """A stretch in a worker's life, for the worker × time chart."""

    worker: int
    what: Literal["alive", "paused", "owns", "step", "lease"]
    start: float
    end: float
    label: str = ""  # the workflow for "owns", the step's name for "step", the incarnation for "alive" and "lease"
    epoch: int | None = None


class Divergence(Struct, frozen=True, kw_only=True):
    """A simulated run that was not the same when it was run again: something decides it that we do not control."""

    seed: int
    message: str  # one sentence: where, and what was seen on both sides
    entry: int | None = (
        None  # in the record of what happened, from 0; None: all entries are equal, what came out is not
    )
    asked: str | None = None  # the statement whose answers differ
    before: tuple[str, ...] = ()  # the last entries that are equal
    first: str | None = None  # the entry of the first run; None: it had ended
    second: str | None = None
    reproduce: str = ""  # ONE line to paste


class Run(Struct, frozen=True, kw_only=True):
    """One seed."""

    seed: int
    verdict: Verdict
    reasons: tuple[str, ...] = ()  # why inconclusive
    seconds: float = 0.0
    workflows: int = 0
    checkpoints: int = 0
    bodies_rerun: int = 0  # bodies that started again because their worker died or was fenced
    attempts_without_checkpoint: int = 0  # the receiver saw them, no checkpoint was ever written by them
    ambiguous_commits: int = 0  # the connection went before the answer to COMMIT came
    ambiguous_present: int = 0  # of those: it had happened, as the worker found out
    ambiguous_absent: int = 0  # of those: it had not; the rest were their workers' last act
    lost_in_transaction: int = 0  # sessions lost within an open transaction, by PostgreSQL's log
    acknowledged_lost: int = (
        0  # starts, checkpoints and outcomes that were acknowledged, and did not survive a failover
    )
    stalls: tuple[float, ...] = ()  # windows without progress, while work waited, longer than 0.1 s, in seconds
    faults: tuple[FaultRecord, ...] = ()
    violations: tuple[Violation, ...] = ()
    progress: tuple[float, ...] = ()  # when each checkpoint became durable
    sometimes: tuple[str, ...] = ()  # what its code said had happened, sorted
    spans: tuple[Span, ...] = ()  # only kept for failing runs and for the first few
    latencies: tuple[
        tuple[float, float], ...
    ] = ()  # (when a workflow ended, seconds since its start); kept as the spans
    plan: str | None = None  # path of the plan file, relative to the result
    history: str | None = None  # of all that was observed, relative to the result; kept unless it passed
    reproduce: str = ""
    token: str | None = None  # names a simulated run, for `duress replay`
    hash: str | None = None  # over all that happened in a simulated run
    twice: bool = False  # it was run twice, and was the same to the byte


class HarnessFailure(Struct, frozen=True, kw_only=True):
    """The harness itself failed: nothing is known about this seed."""

    seed: int
    message: str  # the last line of the traceback


class Remembered(Struct, frozen=True, kw_only=True):
    """A run of the corpus, replayed before the others."""

    file: str
    invariant: str
    state: Literal["fails", "passes", "does not fit"]
    message: str  # what is broken; or how it went, or why it does not fit the code any more
    reproduce: str  # ONE line to paste


class Rare(Struct, frozen=True, kw_only=True):
    """`what`, as code says it by `sometimes`. It is missed if so many `runs` in which one of `faults` struck, in one of
    `worlds` and with so many `workers`, did not come to it. Without `faults`, every run counts.
    """

    what: str
    faults: tuple[str, ...] = ()
    workers: int = 2
    worlds: tuple[str, ...] = ("sim",)
    runs: int = ENOUGH


class Campaign(Struct, frozen=True, kw_only=True):
    """Many runs of one scenario in one world."""

    version: int = RESULT_VERSION
    scenario: str
    world: str
    canary: str | None = None
    workers: int
    started_at: float  # seconds since 1970
    seconds: float
    duress: str  # version of this package
    build: str = ""  # digest of the sources of duress and of the scenario's module
    python: str
    postgres: str
    machine: str  # cores, kernel; no host name
    settings: dict[str, str | int | float | bool | None] = {}
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    invariants: dict[str, str] = {}  # checked in every run, id → title: {"S2": "no-rerun"}; JUnit has a case for each
    rare: tuple[Rare, ...] = ()  # what is to happen in some run
    sometimes: dict[str, int] = {}  # what is to happen in some run → in how many it did; 0: never
    allowed: tuple[str, ...] = ()  # kinds of faults that the scenario must withstand
    not_covered: tuple[str, ...] = ()  # what a reader might think was tested and was not
    wanted: int | None = None  # runs that were ordered; more than there are: it was interrupted, or still goes on
    command: tuple[
        str, ...
    ] = ()  # the words after `duress` that run it again, without --out and --shard; none: unknown
    shards: tuple[str, ...] = ()  # "2/3": every third seed from the second on; none: all seeds
    failures: tuple[HarnessFailure, ...] = ()
    corpus: tuple[Remembered, ...] = ()  # runs that failed earlier, replayed; not in `runs`
    runs: tuple[Run, ...] = ()
    divergences: tuple[Divergence, ...] = ()  # simulated runs that were not the same the second time; not in `runs`

    @property
    def harness_failed(self) -> bool:
        """So that what was not found proves nothing."""
        return bool(self.failures or self.divergences)

    @property
    def run_twice(self) -> int:
        """How many runs were made twice, to see whether they are the same."""
        return len(self.divergences) + sum(run.twice for run in self.runs)
