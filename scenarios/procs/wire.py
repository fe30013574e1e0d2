"""What the harness and a worker process tell each other: JSON lines over a socket pair that the worker inherits.

The harness opens with `Orders`. From then on the worker sends a `Reported` for each engine point. A report with `held`
means that the worker has stopped there and reads nothing and runs nothing until a `Go` answers it.
"""

import msgspec

LINE_LIMIT = 1 << 20  # bytes; a report is some hundred


class Armed(msgspec.Struct, frozen=True, array_like=True):
    """A point at which the worker must stop; `step` narrows it to steps of that name."""

    point: str
    step: str | None = None

    def matches(self, point: str, step: object) -> bool:
        return self.point == point and (self.step is None or self.step == step)


class Orders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a worker process has to know. Durations are seconds."""

    dsn: str
    schema: str
    name: str
    queues: tuple[str, ...]
    concurrency: int
    lease: float
    heartbeat: float
    poll: float
    receiver: str  # address, as `receiver.SocketReceiver` takes it
    armed: tuple[Armed, ...]


class Reported(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One engine point; `at` by CLOCK_MONOTONIC, which all processes of a machine share."""

    at: float
    name: str
    facts: dict[str, str | int | float | bool | None] = {}
    held: bool = False


class Go(msgspec.Struct, frozen=True, kw_only=True):
    """Go on; stop at these points from now on."""

    armed: tuple[Armed, ...] = ()
