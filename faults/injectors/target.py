"""What an injector has to know about the world it strikes: the seam between `faults` and whoever runs the workers.

A world of processes implements `Target`; the injector never starts a process or a server by itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from duress.faults.contention import Contention
    from duress.faults.network import Network
    from duress.faults.postgres import Server
    from duress.faults.postgres.pair import Pair


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One incarnation of a worker, as an operating system process."""

    number: int  # the worker's number, from 0; the same over all its incarnations
    pid: int  # leader of its process group
    pgid: int
    incarnation: int | None = (
        None  # None until its `worker.joined` was heard; then its sessions are `duress:<incarnation>`
    )


class Target(Protocol):
    """The workers and the server that faults are injected into."""

    @property
    def dsn(self) -> str:
        """The database under test, for the injector's own sessions (may terminate the workers' sessions)."""
        ...

    @property
    def server(self) -> "Server | None":
        """The server when it is ours; None for a user's own, which no fault may harm."""
        ...

    @property
    def pair(self) -> "Pair | None":
        """The server with its standby, where there is one; `server` is then whichever of the two takes writes."""
        ...

    @property
    def contention(self) -> "Contention | None":
        """How a stranger gets in the way of the workers' transactions; None where that is not known."""
        ...

    async def primary_lost(self) -> None:
        """Called in a failover, when the primary is lost for good and the standby has not been promoted yet."""
        ...

    @property
    def network(self) -> "Network | None":
        """What stands between the workers and the server; None: nothing that could come in between."""
        ...

    def link(self, worker: int) -> str:
        """The DSN by which the worker reaches the database, through the network if there is one."""
        ...

    def clock_file(self, worker: int) -> Path | None:
        """The file by which libfaketime sets the worker's wall clock; None where it is not preloaded."""
        ...

    def clock(self, worker: int) -> tuple[float, float] | None:
        """When (CLOCK_MONOTONIC) the worker last said what time it is, and by how many seconds that was off."""
        ...

    def process(self, worker: int) -> WorkerProcess | None:
        """The process that is worker `worker` now; None while there is none. Asked afresh each time it matters."""
        ...

    async def respawn(self, worker: int) -> None:
        """Start the worker whose process has ended; return once `process(worker)` is the new one, joined or not.

        The world reaps the old process, which may still be a zombie. Called at most once for each process that ended.
        """
        ...
