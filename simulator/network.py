"""The network between simulated processes and the server, and what can go wrong with it.

Every connection of a process is one `Link`. The verbs name a process (its name, or the SimProcess; "" is the program that
`run` was given) and hold for the links that it has and for those that it makes later, also after a restart, until `heal`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, get_args

from psycopg import OperationalError

from .clock import SECOND
from .errors import SimulationError

if TYPE_CHECKING:
    from .connection import SimConnection
    from .events import Events
    from .link import Link
    from .loop import SimLoop
    from .process import SimProcess

Direction = Literal["both", "to-server", "to-worker"]
Drop = Literal["rst", "fin", "timeout"]
CommitPoint = Literal[
    "before-forward", "forwarded", "applied-reply-held", "mid-CommandComplete", "before-ReadyForQuery"
]
_REFUSED: Final = (
    "connection failed: connection to server failed: Connection refused\n"
    "\tIs the server running on that host and accepting TCP/IP connections?"
)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Seconds of virtual time.

    `latency` is the range that each leg's is drawn from. A client whose connection is held gets an error after
    `client_timeout` (tcp_user_timeout, or keepalives) and hangs if that is None; the server gives a held client up after
    `server_timeout`, and if that is None never.
    """

    latency: tuple[float, float] = (0.0002, 0.001)
    client_timeout: float | None = None
    server_timeout: float | None = None

    def __post_init__(self) -> None:
        low, high = self.latency
        if not 0 <= low <= high:
            raise ValueError(f"a latency from {low} to {high} s cannot be: give two numbers, the lower one first")


@dataclass(slots=True)
class Cut:
    """The connection is to be lost at the `left`-th COMMIT (or, without `commits`, the next reply) from now."""

    point: CommitPoint
    left: int
    commits: bool


@dataclass(slots=True)
class Reach:
    """How one process reaches the server now."""

    latency: tuple[float, float]
    to_server_held: bool = False
    to_worker_held: bool = False
    refused: bool = False
    cuts: list[Cut] = field(default_factory=list)
    notifications_to_lose: int = 0
    holds: int = 0  # how often it was partitioned or healed


class Network:
    """All links of one run."""

    def __init__(self, loop: "SimLoop", events: "Events", settings: NetworkSettings) -> None:
        self.loop = loop
        self.events = events
        self.settings = settings
        self.links: list[Link] = []  # that are not closed
        self._all: list[Link] = []
        self.server_stopped: Callable[[], bool] = bool
        self._reaches: dict[str, Reach] = {}

    def add(self, link: "Link") -> None:
        self.links.append(link)
        self._all.append(link)

    def close(self) -> None:
        """The run is over."""
        for link in self._all:
            link.close()

    def reach(self, process: str) -> Reach:
        """The state of one process's connections."""
        return self._reaches.setdefault(process, Reach(self.settings.latency))

    def latency(self, reach: Reach) -> int:
        """Nanoseconds for one leg, drawn."""
        low, high = reach.latency
        return round(self.loop.choices.uniform("network", low * SECOND, high * SECOND, "latency"))

    def of(self, process: "SimProcess | str") -> "list[Link]":
        """The links of a process that are not closed."""
        name = _name(process)
        return [link for link in self.links if link.process == name]

    def _ever_of(self, process: "SimProcess | str") -> "list[Link]":
        """Those that are closed too: their goodbye may still be on its way."""
        name = _name(process)
        return [link for link in self._all if link.process == name]

    async def knock(self) -> None:
        """What a connection attempt meets first. Raises psycopg.OperationalError where connections are refused."""
        process = self.loop.process
        reach = self.reach(process.name if process else "")
        if (reach.refused or self.server_stopped()) and not reach.to_server_held:
            answer = self.loop.create_future()
            self.events.call_at(self.loop.clock.now + self.latency(reach) + self.latency(reach), _settle, answer)
            await answer
            raise OperationalError(_REFUSED)

    def partition(
        self, process: "SimProcess | str", direction: Direction = "both", duration: float | None = None
    ) -> None:
        """Hold what the process sends ("to-server"), what it is sent ("to-worker"), or both; connections stay up, and
        the server keeps its sessions with their locks. It heals after `duration` s, or by `heal`.
        """
        if direction not in get_args(Direction):
            raise ValueError(f"a partition's direction is one of {get_args(Direction)}, not {direction!r}")
        reach = self._strike(process, f"partition {direction}")
        reach.to_server_held = reach.to_server_held or direction != "to-worker"
        reach.to_worker_held = reach.to_worker_held or direction != "to-server"
        reach.holds += 1
        for link in self._ever_of(process):
            link.hold()
        self._later(duration, partial(self._heal_if_same, process, reach.holds))

    def _heal_if_same(self, process: "SimProcess | str", holds: int) -> None:
        """Unless another partition has begun meanwhile, which has a duration of its own."""
        if self.reach(_name(process)).holds == holds:
            self.heal(process)

    def heal(self, process: "SimProcess | str") -> None:
        """End a partition: what was held arrives, in order."""
        reach = self._strike(process, "heal")
        reach.to_server_held = reach.to_worker_held = False
        reach.holds += 1
        for link in self._ever_of(process):
            link.release()

    def drop(self, target: "SimProcess | str | SimConnection", how: Drop = "rst") -> None:
        """Lose all connections of a process, or one. The client gets a psycopg.OperationalError; after "timeout" the
        server does not know and keeps the session until `server_timeout`.
        """
        if how not in get_args(Drop):
            raise ValueError(f"a connection is dropped by one of {get_args(Drop)}, not {how!r}")
        for link in self._targets(target):
            self.loop.note(link.process, "fault", f"drop {how} #{link.number}")
            link.drop(how)

    def refuse(self, process: "SimProcess | str", *, on: bool = True, duration: float | None = None) -> None:
        """New connections of the process are refused, or (`on=False`) no longer. Those that it has are not touched."""
        reach = self._strike(process, "refuse connections" if on else "accept connections")
        reach.refused = on
        if on:
            self._later(duration, partial(self.refuse, process, on=False))

    def lose_reply(self, process: "SimProcess | str", *, commit: int | None = None) -> None:
        """What the next exchange of the process asks is done, and the connection lost before the reply; or that of its
        `commit`-th COMMIT from now.
        """
        if commit is not None:
            self.cut_commit(process, "applied-reply-held", commit)
        else:
            self._strike(process, "lose the next reply").cuts.append(Cut("applied-reply-held", 1, commits=False))

    def cut_commit(self, process: "SimProcess | str", point: CommitPoint, count: int = 1) -> None:
        """Lose the connection at the process's `count`-th COMMIT from now. Only at "before-forward" is it not applied."""
        if point not in get_args(CommitPoint):
            raise ValueError(f"a COMMIT is cut at one of {get_args(CommitPoint)}, not {point!r}")
        if count < 1:
            raise ValueError(f"COMMITs are counted from 1, not from {count}")
        self._strike(process, f"cut COMMIT {count} {point}").cuts.append(Cut(point, count, commits=True))

    def lose_notifications(self, process: "SimProcess | str", count: int = 1) -> None:
        """The next `count` deliveries of notifications to the process lose them."""
        self._strike(process, f"lose {count} notifications").notifications_to_lose += count

    def slow(self, process: "SimProcess | str", latency: tuple[float, float], duration: float | None = None) -> None:
        """Draw the latency of the process's legs from another range, in seconds; for ever or for `duration` s."""
        NetworkSettings(latency)
        self._strike(process, f"latency {latency}").latency = latency
        if duration is not None:
            self._later(duration, partial(self.slow, process, self.settings.latency))

    def _strike(self, process: "SimProcess | str", what: str) -> Reach:
        name = _name(process)
        self.loop.note(name, "fault", what)
        return self.reach(name)

    def _later(self, duration: float | None, action: Callable[[], object]) -> None:
        if duration is not None:
            if duration <= 0:
                raise ValueError(f"a fault cannot last {duration} s")
            self.events.call_at(self.loop.clock.now + round(duration * SECOND), action)

    def _targets(self, target: "SimProcess | str | SimConnection") -> "list[Link]":
        link: Link | None = getattr(target, "link", None)
        if link is not None:
            return [link]
        found = self.of(target)  # type: ignore[arg-type]
        if not found and not isinstance(target, str) and not hasattr(target, "name"):
            raise SimulationError(f"{target!r} is neither a process nor a connection of this run")
        return found


def _name(process: "SimProcess | str") -> str:
    return process if isinstance(process, str) else process.name


def _settle(answer: "asyncio.Future[None]") -> None:
    if not answer.done():
        answer.set_result(None)
