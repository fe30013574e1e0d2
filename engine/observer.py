"""What the engine tells whoever watches it.

The engine announces *points*: places in its protocol where a crash, a pause or a lost connection would matter. In
production nobody listens and a point costs one comparison. A test harness injects an observer that records the points,
holds the worker at one, or kills it there.

Facts never carry user values: names, ids, numbers and times by the database's clock only.
"""

from collections.abc import Awaitable
from typing import Final, Protocol

Facts = dict[str, str | int | float | bool | None]


class Observer(Protocol):
    """Receives engine points."""

    def point(self, name: str, facts: Facts) -> Awaitable[None] | None:
        """Called at an engine point; an awaitable that is returned is awaited before the engine goes on."""
        ...


# Worker life. Times ending in _at or _until are seconds since 1970 by the database's clock.
WORKER_JOINED: Final = "worker.joined"  # worker, incarnation, lease_until
WORKER_RENEWED: Final = "worker.renewed"  # worker, incarnation, lease_until
WORKER_LOST: Final = "worker.lost"  # worker, incarnation: it was declared dead while it lived
WORKER_LEFT: Final = "worker.left"  # worker, incarnation: graceful end, nothing owned any more
TOOK_OVER: Final = (
    "worker.took-over"  # worker, incarnation, victim (incarnation), reason ("lock" | "lease" | "name"), workflows, at
)
# One workflow. All carry worker, incarnation, workflow (id), epoch.
CLAIMED: Final = "workflow.claimed"  # name, claimed_at, checkpoints (how many came along), takeovers
SUSPENDED: Final = "workflow.suspended"  # due_at
RELEASED: Final = "workflow.released"  # handed back by a graceful stop
FENCED: Final = "workflow.fenced"  # step or None: a write was refused because another owner came
UNWOUND: Final = "workflow.unwound"  # why; its code has stopped here without an outcome, whatever was announced before
FINISHING: Final = "workflow.finishing"  # status; about to write the outcome
FINISHED: Final = "workflow.finished"  # status; the outcome is durable
# One step. All carry also step (id), name.
REPLAYED: Final = "step.replayed"  # answered from its checkpoint; no body ran
STARTED: Final = "step.started"  # attempt, key; the body starts now
ENDED: Final = "step.ended"  # attempt, outcome ("ok" | "error")
CHECKPOINTING: Final = "step.checkpointing"  # about to write the checkpoint (plain steps, sleeps and race winners)
CHECKPOINTED: Final = "step.checkpointed"  # the checkpoint is durable (every kind of step)
COMMITTING: Final = "step.committing"  # transaction step: checkpoint written, COMMIT not sent
AMBIGUOUS: Final = "step.ambiguous"  # the connection went during COMMIT
RESOLVED: Final = "step.resolved"  # present (bool): how the ambiguous COMMIT turned out
FIRED: Final = "timer.fired"  # a durable sleep ended; due_at, at

# The client's side.
STARTING: Final = "client.starting"  # workflow, name
ACCEPTED: Final = "client.accepted"  # workflow, name, existed (bool)
READ: Final = "client.read"  # workflow, status, digest (of the outcome, not the outcome)
