"""What all workflows of one worker share: connections, codec, observer, lease, options."""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from .codec import Values, is_storable
from .errors import ConfigurationError
from .observer import Facts, Observer
from .sessions import Sessions
from .store import Store

log = logging.getLogger("duress.engine")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works. Times in seconds.

    A worker uses at most `writers` + 3 connections beside `transactions` for transaction steps: presence (lease, session
    lock, notifications), the wait for its neighbour's lock, and claims. Up to 4 more while writes wait for locks that others
    hold, and one for a moment while it takes over from a worker whose lease has ended.
    """

    queues: tuple[str, ...] = ("default",)
    concurrency: int = 100
    name: str | None = None
    lease: float = 5.0
    heartbeat: float = 1.0
    poll: float = 1.0
    suspend_after: float = 1.0
    """Sleeps this long leave memory; shorter ones are waited for."""
    takeovers: int = 20
    """A workflow whose claims ended in so many dead workers is given up as `dead`."""
    writers: int = 2
    transactions: int = 8
    grace: float = 30.0
    """How long a graceful stop waits for the bodies that run."""

    def __post_init__(self) -> None:
        positive = ("concurrency", "lease", "heartbeat", "poll", "takeovers", "writers", "transactions")
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name}={getattr(self, name)} will not do: it must be finite and above 0")
        if not (self.suspend_after >= 0 and self.grace >= 0):
            raise ConfigurationError("suspend_after and grace must not be negative")
        if self.heartbeat * 2 > self.lease:
            raise ConfigurationError(
                f"heartbeat={self.heartbeat} is too slow for lease={self.lease}: at least two must fit into a lease"
            )
        if self.name is not None and not (self.name and is_storable(self.name)):
            raise ConfigurationError(f"worker name {self.name!r} will not do: not empty, no NUL, no lone surrogates")
        if not self.queues:
            raise ConfigurationError("queues is empty: a worker needs at least one queue")


class Lease:
    """This worker's right to start bodies, by its own monotonic clock: it can only end sooner than the database's."""

    def __init__(self) -> None:
        self._until = 0.0
        self._renewed = asyncio.Event()

    def renewed(self, until: float) -> None:
        """`until`: loop time when the renewing statement was sent, plus the lease."""
        self._until = until
        self._renewed.set()
        self._renewed = asyncio.Event()

    def held(self) -> bool:
        return asyncio.get_running_loop().time() < self._until

    async def wait(self) -> None:
        """Return once the lease is held."""
        while not self.held():
            await self._renewed.wait()


@dataclass(slots=True)
class Runtime:
    """One incarnation of a worker."""

    worker: str
    incarnation: int
    store: Store
    sessions: Sessions
    values: Values
    observer: Observer | None
    entropy: random.Random
    options: WorkerOptions
    executor: Executor
    finished: Callable[[int, str, str, str], None]
    """Told of every durable outcome: number, status, outcome."""
    lease: Lease = field(default_factory=Lease)
    bodies: dict[object, tuple[str, str, float]] = field(default_factory=dict)
    """What runs: workflow id, step name, loop time of its start."""
    ended: list[tuple[str, str, float]] = field(default_factory=list)
    """What ran for a noticeable time and ended since the event loop was last seen at work."""

    def observe(self, name: str, facts: Facts) -> Awaitable[None] | None:
        """Announce a point of this worker."""
        if self.observer is None:
            return None
        return self.observer.point(name, {"worker": self.worker, "incarnation": self.incarnation, **facts})
