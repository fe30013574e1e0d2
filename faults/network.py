"""What stands between the workers and the server, as an injector needs it: the seam to the proxy and to Toxiproxy."""

from typing import TYPE_CHECKING, Protocol

from duress.faults.worlds import NetworkName

if TYPE_CHECKING:
    from duress.faults.proxy.orders import Ending, Rule, Shape, Sides


class NetworkUnavailable(Exception):
    """There is no such network here, or it cannot stand before that server; the message says what would help."""


class Network(Protocol):
    """Leads each worker to the server through a port of its own, and comes in between.

    Verbs return when they have taken effect on the network's side. Verbs about connections concern those that the worker
    has and those that it makes later.
    """

    @property
    def name(self) -> NetworkName:
        """What `--network` calls it."""
        ...

    @property
    def tcp_only(self) -> bool:
        """Whether it cannot reach a server by its unix socket."""
        ...

    def check(self, dsn: str) -> object:
        """Raise NetworkUnavailable if it cannot stand before the servers that `dsn` names."""
        ...

    async def listen(self, worker: int, dsn: str) -> str:
        """Open the worker's way to the servers that `dsn` names; returns the DSN to give to the worker."""
        ...

    async def close_port(self, worker: int) -> None:
        """End the worker's connections and give its ports back."""
        ...

    async def drop(self, worker: int, ending: "Ending" = "rst") -> int:
        """End all connections of the worker; returns how many there were, where that is known."""
        ...

    async def refuse(self, worker: int, *, on: bool) -> None:
        """Whether connecting is refused."""
        ...

    async def withhold(self, worker: int, sides: "Sides" = "both") -> None:
        """Let nothing pass in these directions; connections stay up."""
        ...

    async def release(self, worker: int, *, alive: bool = True) -> None:
        """Let it pass again, or (not `alive`) reset the connections."""
        ...

    async def slow(self, worker: int, shape: "Shape | None", sides: "Sides" = "both") -> None:
        """Make the way slow; None: as fast as it is."""
        ...


class Leading(Network, Protocol):
    """A network that can lead a worker to another server."""

    async def repoint(self, worker: int, dsn: str) -> None:
        """Take the worker's new connections to another server."""
        ...


class Reading(Network, Protocol):
    """A network that reads what passes."""

    async def arm(self, worker: int, rule: "Rule") -> int:
        """Wait for a message of the worker; returns the rule's number."""
        ...

    async def struck(self, rule: int) -> int:
        """Wait until the rule strikes; returns the port of the worker's end of the connection that it struck."""
        ...

    async def withdraw(self, worker: int, rule: int) -> bool:
        """Forget a rule; whether it was still armed."""
        ...
