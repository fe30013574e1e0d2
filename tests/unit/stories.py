"""Made-up runs, told entry by entry, with the shapes of real ones: what the tests of the checkers judge."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import CheckpointRow, Entry, Evidence, FinalState, WorkerRow, WorkflowRow
from duress.scenarios.invariants import INVARIANTS, judge

OFFSET = 1_700_000_000.0  # database clock minus history clock
LEASE = 1.0
HEARTBEAT = 0.25
OPENING = 1000


def digest(outcome: str) -> str:
    return hashlib.sha256(outcome.encode()).hexdigest()[:16]


@dataclass
class Story:
    """A run in the making. Tests add to it, and change or take away what was told."""

    entries: list[Entry] = field(default_factory=list)
    workflows: list[WorkflowRow] = field(default_factory=list)
    checkpoints: list[CheckpointRow] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    balances: dict[str, int] = field(default_factory=lambda: {"a": OPENING, "b": OPENING})
    incarnations: dict[int, int] = field(default_factory=dict)  # worker → its incarnation now

    def tell(self, at: float, source: str, name: str, /, **facts: Any) -> None:
        self.entries.append(Entry(at, source, name, facts))

    def of_worker(self, at: float, worker: int, name: str, /, **facts: Any) -> None:
        told = {"worker": f"worker-{worker}", "incarnation": self.incarnations[worker], **facts}
        self.entries.append(Entry(at, f"worker {worker}", name, told))

    # Workers

    def join(self, worker: int, incarnation: int, at: float, until: float) -> None:
        """A process starts, joins, and sends heartbeats until `until`."""
        self.tell(at - 0.2, "harness", history.SPAWNED, worker=worker, pid=100 + incarnation)
        self.incarnations[worker] = incarnation
        self.of_worker(at, worker, observer.WORKER_JOINED, lease_until=at + OFFSET + LEASE)
        self.beat(worker, at + HEARTBEAT, until)

    def beat(self, worker: int, at: float, until: float) -> None:
        while at < until:
            self.of_worker(at, worker, observer.WORKER_RENEWED, lease_until=at + OFFSET + LEASE)
            at += HEARTBEAT

    def exit(self, worker: int, at: float, signal: int | None = 9) -> None:
        pid = 100 + self.incarnations[worker]
        code = None if signal else 0
        self.tell(at, "harness", history.EXITED, worker=worker, pid=pid, signal=signal, code=code, planned=True)

    def fault(
        self, index: int, kind: str, worker: int, asked: float, effect: float, healed: float | None = None
    ) -> None:
        facts = {"index": index, "kind": kind, "worker": worker}
        self.tell(asked, "harness", history.FAULT_ASKED, **facts)
        self.tell(effect, "harness", history.FAULT_EFFECT, **facts, confirmed_by="it was seen")
        if healed is not None:
            self.tell(healed, "harness", history.FAULT_HEALED, **facts)

    def take_over(self, at: float, worker: int, victim: int, reason: str) -> None:
        facts = {"victim": victim, "reason": reason, "workflows": 1, "at": at + OFFSET}
        self.of_worker(at + 0.001, worker, observer.TOOK_OVER, **facts)

    # Clients

    def accept(self, id_: str, at: float, *, number: int = 1) -> None:
        self.tell(at - 0.002, "client", observer.STARTING, workflow=id_, name="transfer")
        self.tell(at, "client", observer.ACCEPTED, workflow=id_, name="transfer", number=number, existed=False)
        self.workflows.append(WorkflowRow(number, id_, "transfer", "open", None, 0))

    def read(self, id_: str, at: float, outcome: str = '"done"', status: str = "succeeded") -> None:
        self.tell(at, "client", observer.READ, workflow=id_, status=status, digest=digest(outcome))

    # Workflows

    def claim(self, id_: str, epoch: int, worker: int, at: float) -> None:
        facts = {"name": "transfer", "claimed_at": at + OFFSET, "checkpoints": 0, "takeovers": 0}
        self.of_worker(at + 0.001, worker, observer.CLAIMED, workflow=id_, epoch=epoch, **facts)

    def replay(self, id_: str, epoch: int, worker: int, at: float, step: str, name: str) -> None:
        self.of_worker(at, worker, observer.REPLAYED, workflow=id_, epoch=epoch, step=step, name=name)

    def start_body(self, id_: str, epoch: int, worker: int, at: float, step: str, name: str, attempt: int = 1) -> None:
        facts = {"attempt": attempt, "key": f"{id_}:{step}"}
        self.of_worker(at, worker, observer.STARTED, workflow=id_, epoch=epoch, step=step, name=name, **facts)

    def request(
        self, id_: str, epoch: int, at: float, step: str, *, applied: bool = True, key: str | None = None
    ) -> None:
        facts = {"workflow": id_, "step": step, "attempt": 1, "epoch": epoch, "applied": applied, "purpose": "charge"}
        self.tell(at, "receiver", history.RECEIVED, key=key or f"{id_}:{step}", **facts)

    def record(
        self, id_: str, epoch: int, worker: int, at: float, step: str, name: str, kind: str = "step", value: str = "1"
    ) -> None:
        """A checkpoint is written, and told as durable a millisecond later."""
        owner = self.incarnations[worker]
        self.checkpoints.append(CheckpointRow(1, id_, step, name, kind, False, value, owner, epoch, at + OFFSET))
        self.of_worker(at + 0.001, worker, observer.CHECKPOINTED, workflow=id_, epoch=epoch, step=step, name=name)

    def transact(
        self, id_: str, epoch: int, worker: int, at: float, step: str, name: str, account: str, cents: int
    ) -> None:
        """A transaction step from its start to its checkpoint, 6 ms later, with its lines in the ledger."""
        about = {"workflow": id_, "epoch": epoch, "step": step, "name": name}
        self.start_body(id_, epoch, worker, at, step, name)
        self.of_worker(at + 0.002, worker, observer.ENDED, **about, attempt=1, outcome="ok")
        self.of_worker(at + 0.004, worker, observer.COMMITTING, **about)
        self.move(id_, epoch, at + 0.004, step, name, account, cents)
        self.record(id_, epoch, worker, at + 0.005, step, name, "transaction")

    def move(self, id_: str, epoch: int, at: float, step: str, entry: str, account: str, cents: int) -> None:
        xact = 700 + len(self.ledger)
        self.balances[account] += cents
        for where, amount in ((account, cents), ("transit", -cents)):
            line = {"line": len(self.ledger), "account": where, "cents": amount, "workflow": id_, "step": step}
            more = {
                "epoch": epoch,
                "entry": entry,
                "xact": xact,
                "at": at + OFFSET,
                "committed_at": at + OFFSET + 0.001,
            }
            self.ledger.append({**line, **more})

    def finish(
        self, id_: str, epoch: int, worker: int, at: float, outcome: str = '"done"', status: str = "succeeded"
    ) -> None:
        self.of_worker(at - 0.002, worker, observer.FINISHING, workflow=id_, epoch=epoch, status=status)
        self.of_worker(at, worker, observer.FINISHED, workflow=id_, epoch=epoch, status=status)
        self.workflows = [
            WorkflowRow(row.number, row.id, row.name, status, outcome, epoch) if row.id == id_ else row
            for row in self.workflows
        ]

    def evidence(self, *, calm: tuple[float, float] | None = None) -> Evidence:
        """The run as it is judged; `calm` is when the calm phase began and ended."""
        last = max((entry.at for entry in self.entries), default=0.0)
        began, ended = calm or (last + 0.1, last + 0.2)
        told = [
            *self.entries,
            Entry(0.0, "harness", history.WORKLOAD_BEGAN, {}),
            Entry(began, "harness", history.CALM_BEGAN, {}),
            Entry(ended, "harness", history.CALM_ENDED, {"unfinished": 0}),
        ]
        accounts = tuple({"id": id_, "balance": now, "opening": OPENING} for id_, now in self.balances.items())
        workers = tuple(
            WorkerRow(incarnation, f"worker-{worker}", OFFSET, OFFSET + 99, None, None)
            for worker, incarnation in self.incarnations.items()
        )
        return Evidence(
            seed=1,
            history=tuple(sorted(told, key=lambda entry: entry.at)),
            final=FinalState(
                workflows=tuple(self.workflows),
                checkpoints=tuple(self.checkpoints),
                workers=workers,
                tables={"ledger": tuple(self.ledger), "account": accounts},
            ),
            clock_offset=OFFSET,
            lease=LEASE,
            workers=2,
        )


def found(story: Story, calm: tuple[float, float] | None = None) -> dict[str, str]:
    """What the invariants find in it: invariant → its messages."""
    messages: dict[str, str] = {}
    for finding in judge(story.evidence(calm=calm), INVARIANTS):
        messages[finding.invariant] = messages.get(finding.invariant, "") + finding.message
    return messages


def killed() -> Story:
    """Worker 0 is killed while it charges; worker 1 takes over, charges again under the same key, and finishes.

    0.010 accepted · 0.020 claimed by 0 · 0.030 debit · 0.050 charge, which reaches the receiver · 0.060 SIGKILL ·
    0.070 taken over · 0.080 claimed by 1 · 0.090 charge · 0.110 sleep · 0.140 credit · 0.160 finished · 0.170 read
    """
    story = Story()
    story.join(0, 1, -0.5, 0.06)
    story.join(1, 2, -0.4, 2.0)
    story.accept("t", 0.010)
    story.claim("t", 1, 0, 0.020)
    story.transact("t", 1, 0, 0.030, "1", "debit", "a", -100)
    story.start_body("t", 1, 0, 0.050, "2", "charge")
    story.request("t", 1, 0.055, "2")
    story.fault(0, "kill-worker", 0, 0.060, 0.063, 0.360)
    story.exit(0, 0.064)
    story.take_over(0.070, 1, 1, "lock")
    story.claim("t", 2, 1, 0.080)
    story.replay("t", 2, 1, 0.083, "1", "debit")
    go_on(story, "t", 2, 1, 0.090)
    story.join(0, 3, 0.560, 2.0)
    return story


def go_on(story: Story, id_: str, epoch: int, worker: int, at: float) -> None:
    """From the charge to the end, in 80 ms."""
    about = {"workflow": id_, "epoch": epoch}
    story.start_body(id_, epoch, worker, at, "2", "charge")
    again = any(entry.name == history.RECEIVED and entry.facts["workflow"] == id_ for entry in story.entries)
    story.request(id_, epoch, at + 0.005, "2", applied=not again)
    story.of_worker(at + 0.009, worker, observer.CHECKPOINTING, **about, step="2", name="charge")
    story.record(id_, epoch, worker, at + 0.010, "2", "charge")
    story.record(id_, epoch, worker, at + 0.020, "3", "sleep", "sleep", str(at + 0.045 + OFFSET))
    story.transact(id_, epoch, worker, at + 0.050, "4", "credit", "b", 100)
    story.finish(id_, epoch, worker, at + 0.070)
    story.read(id_, at + 0.080)


def paused(duration: float = 3.0) -> Story:
    """Worker 0 is paused with a transaction open; worker 1 takes over when its lease ends, and the pause ends later.

    0.010 accepted · 0.020 claimed by 0 · 0.030 debit begins · 0.040 paused · 0.760 lease over, taken over ·
    0.770 claimed by 1, which goes on · the pause ends, the zombie is fenced, and joins anew
    """
    story = Story()
    story.join(0, 1, -0.5, 0.04)
    story.join(1, 2, -0.4, 5.0)
    story.accept("t", 0.010)
    story.claim("t", 1, 0, 0.020)
    story.start_body("t", 1, 0, 0.030, "1", "debit")
    story.of_worker(0.035, 0, observer.COMMITTING, workflow="t", epoch=1, step="1", name="debit")
    story.fault(0, "pause-worker", 0, 0.040, 0.042, 0.040 + duration)
    # The last heartbeat was at -0.25 + 0.25 = 0.0, so the lease lasts until 1.0.
    story.take_over(1.010, 1, 1, "lease")
    story.claim("t", 2, 1, 1.020)
    story.transact("t", 2, 1, 1.030, "1", "debit", "a", -100)
    go_on(story, "t", 2, 1, 1.050)
    woken = 0.040 + duration + 0.010
    story.of_worker(woken, 0, observer.FENCED, workflow="t", epoch=1, step="1")
    story.of_worker(woken + 0.01, 0, observer.WORKER_LOST)
    story.incarnations[0] = 3
    story.of_worker(woken + 0.02, 0, observer.WORKER_JOINED, lease_until=woken + 0.02 + OFFSET + LEASE)
    story.beat(0, woken + 0.27, 5.0)
    return story


def undisturbed() -> Story:
    """Nothing goes wrong."""
    story = Story()
    story.join(0, 1, -0.5, 1.0)
    story.join(1, 2, -0.4, 1.0)
    story.accept("t", 0.010)
    story.claim("t", 1, 0, 0.020)
    story.transact("t", 1, 0, 0.030, "1", "debit", "a", -100)
    go_on(story, "t", 1, 0, 0.050)
    return story
