"""What the harness and a worker process tell each other: JSON lines over a socket pair that the worker inherits.

The harness opens with `Orders`. From then on the worker sends a `Reported` for each engine point. A report with `held`
means that the worker has stopped there and reads nothing and runs nothing until a `Go` answers it.
"""

import msgspec

from duress.scenarios.points import Armed
from duress.scenarios.settings import Settings

LINE_LIMIT = 1 << 20  # bytes; a report is some hundred


class Orders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a worker process has to know."""

    dsn: str
    name: str
    settings: Settings
    receiver: str  # address, as `receiver.SocketReceiver` takes it
    armed: tuple[Armed, ...]
    clock: str | None = None  # the file by which libfaketime sets this worker's wall clock


class Go(msgspec.Struct, frozen=True, kw_only=True):
    """Go on; stop at these points from now on."""

    armed: tuple[Armed, ...] = ()
