"""The outside world of plain steps: a service that applies each idempotency key once.

A step does `await receiver.call(…)`; what stands behind it is the world's business (a socket in real processes, a
simulated link elsewhere). Every attempt is recorded outside the database under test, whatever becomes of the worker
that made it.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt of one step: who asks, under which key, for what."""

    key: str  # the idempotency key, the same for every attempt
    workflow: str
    step: str
    attempt: int
    epoch: int
    purpose: str  # "charge", "notify", …
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver decided for a key; a repeated key gets the first answer again."""

    status: str
    reference: str = ""


class Receiver(Protocol):
    """The way from a step to the receiver."""

    async def send(self, request: Request) -> Answer:
        """Deliver one request and return the answer; raises OSError if the receiver cannot be reached."""
        ...


_receiver: Receiver | None = None


def install(receiver: Receiver) -> None:
    """Say which receiver the steps of this process reach; the world calls it before any workflow runs."""
    global _receiver
    _receiver = receiver


async def call(purpose: str, **body: Any) -> Answer:
    """Send a request for the step that is running now, under its idempotency key.

    Raises RuntimeError outside of a world, and OSError if the receiver cannot be reached.
    """
    from duress.engine import current  # here, so that a list of scenarios does not load a database driver

    if _receiver is None:
        raise RuntimeError(
            f"{purpose}: no receiver is installed in this process; a scenario's steps run in a world's workers"
        )
    step = current()
    request = Request(
        key=step.idempotency_key,
        workflow=step.workflow_id,
        step=step.step_id,
        attempt=step.attempt,
        epoch=step.epoch,
        purpose=purpose,
        body=body,
    )
    return await _receiver.send(request)
