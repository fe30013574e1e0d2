"""The network between simulated processes and the server, and what can go wrong with it.

Every connection of a process is one `Link`. The verbs name a process (its name, or the SimProcess; "" is the program that
`run` was given) and hold for the links that it has and for those that it makes later, also after a restart, until `heal`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, get_args

from psycopg import OperationalError

from duress.faults.plan import CommitPoint, Direction

from .clock import SECOND
from .errors import SimulationError
from .reach import Cut, Reach, Traffic

if TYPE_CHECKING:
    from .connection import SimConnection
    from .events import Events
    from .link import Link
    from .loop import SimLoop
    from .process import SimProcess

Drop = Literal["rst", "fin", "timeout"]
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

    def traffic(self, process: "SimProcess | str") -> Traffic:
        """What has happened to a process's connections so far."""
        return self.reach(_name(process)).traffic

    def latency(self, reach: Reach) -> int:
        """Nanoseconds for one leg, drawn."""
        low, high = reach.latency
        takes = round(self.loop.choices.uniform("network", low * SECOND, high * SECOND, "latency"))
        if takes > self.settings.latency[1] * SECOND:
            reach.traffic.late += 1
        return takes

    def pace(self, reach: Reach, size: int) -> int:
        """Nanoseconds until so many bytes are on their way."""
        if reach.bandwidth is None:
            return 0
        reach.traffic.late += 1
        return size * SECOND // reach.bandwidth

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
            reach.traffic.refused += 1
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

    def cut_commit(self, process: "SimProcess | str", point: CommitPoint, count: int = 1) -> Cut:
        """Lose the connection at the process's `count`-th COMMIT from now. Only at "before-forward" is it not applied."""
        if point not in get_args(CommitPoint):
            raise ValueError(f"a COMMIT is cut at one of {get_args(CommitPoint)}, not {point!r}")
        if count < 1:
            raise ValueError(f"COMMITs are counted from 1, not from {count}")
        cut = Cut(point, count, commits=True)
        self._strike(process, f"cut COMMIT {count} {point}").cuts.append(cut)
        return cut

    def spare(self, process: "SimProcess | str", cut: Cut) -> None:
        """Do without a cut that has not come yet."""
        self._strike(process, f"do not cut COMMIT {cut.left} {cut.point}").cuts.remove(cut)

    def lose_notifications(self, process: "SimProcess | str", count: int = 1) -> None:
        """The next `count` deliveries of notifications to the process lose them."""
        self._strike(process, f"lose {count} notifications").notifications_to_lose += count

    def deafen(self, process: "SimProcess | str", *, on: bool = True) -> None:
        """No notification reaches the process, or (`on=False`) all do again."""
        self._strike(process, "lose all notifications" if on else "lose no notifications").deaf = on

    def slow(
        self,
        process: "SimProcess | str",
        latency: tuple[float, float],
        duration: float | None = None,
        *,
        bandwidth: int | None = None,
    ) -> None:
        """Draw the latency of the process's legs from another range, in seconds, and let no more than `bandwidth` bytes a
        second pass (None: any number); for ever, for `duration` s, or until `quicken`.
        """
        NetworkSettings(latency)
        if bandwidth is not None and bandwidth <= 0:
            raise ValueError(f"a bandwidth of {bandwidth} bytes a second lets nothing pass")
        reach = self._strike(process, f"latency {latency}, bandwidth {bandwidth}")
        reach.latency, reach.bandwidth = latency, bandwidth
        if duration is not None:
            self._later(duration, partial(self.quicken, process))

    def quicken(self, process: "SimProcess | str") -> None:
        """The process's links are as fast as all others again."""
        self.slow(process, self.settings.latency)

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
