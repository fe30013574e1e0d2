"""How one process reaches the server now, and what has become of its connections: each thing is counted where it happens."""

from collections import Counter
from dataclasses import dataclass, field

from duress.faults.plan import CommitPoint


@dataclass(slots=True)
class Cut:
    """The connection is to be lost at the `left`-th COMMIT (or, without `commits`, the next reply) from now."""

    point: CommitPoint
    left: int
    commits: bool


@dataclass(slots=True)
class Traffic:
    """What has happened to the connections of one process since the run began."""

    lost: int = 0  # connections that ended under it
    refused: int = 0  # attempts to connect that nobody listened to
    withheld: int = 0  # times that something was held up by a partition
    late: int = 0  # times that something took longer than anything takes on a link that is not slow
    notifications_lost: int = 0
    cuts: Counter[CommitPoint] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # that reached it, by SQLSTATE


@dataclass(slots=True)
class Reach:
    """How one process reaches the server now. Latencies are seconds."""

    latency: tuple[float, float]
    bandwidth: int | None = None  # bytes a second, in each direction of each connection
    to_server_held: bool = False
    to_worker_held: bool = False
    refused: bool = False
    cuts: list[Cut] = field(default_factory=list)
    notifications_to_lose: int = 0
    deaf: bool = False  # loses all of them
    holds: int = 0  # how often it was partitioned or healed
    traffic: Traffic = field(default_factory=Traffic)
