"""How long an injector waits before it says that a fault has not fired, or that it cannot be undone."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for what, in seconds."""

    victim: float = 5.0  # for a victim to be there, if it is not held at a point (a held one cannot come nearer)
    transaction: float = 0.25  # for a session inside a transaction, before any session will do
    effect: float = 10.0  # for the effect to be seen
    drain: float = 30.0  # for a worker to end after SIGTERM
    outage: float = 60.0  # for the server to be back
