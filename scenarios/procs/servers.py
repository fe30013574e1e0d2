"""Which server the runs of a plan take place on: the lane's own, or one of their own with what the plan's faults need."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from duress.faults.plan import DiskFull, Failover, Plan, TooManyConnections
from duress.faults.postgres import Server
from duress.faults.postgres.pair import Mode, Pair

# Seconds that the replication link takes. What an asynchronous standby lacks is what was under way then.
LATENCY: Final[Mapping[Mode, float]] = {"sync": 0.0, "async": 0.05}
SMALL_DISK: Final = {"max_wal_size": "32MB", "min_wal_size": "16MB"}
# Connections, where strangers are to take all that are free: so many for the harness, and for each worker.
FEW: Final = (24, 16)


@dataclass(frozen=True, slots=True)
class Servers:
    """One server, or a pair whose `server` may fail over to its standby."""

    first: Server
    pair: Pair | None = None

    @property
    def server(self) -> Server:
        """The one that takes writes now."""
        return self.first if self.pair is None else self.pair.primary

    @property
    def dsn(self) -> str:
        """A database of whichever takes writes."""
        return self.first.dsn() if self.pair is None else self.pair.dsn()

    def over_tcp(self, database: str) -> str:
        """A database, without unix sockets."""
        return self.first.dsn(database, tcp=True) if self.pair is None else self.pair.dsn(database, tcp=True)


def needs_own(plan: Plan) -> bool:
    """Whether the plan's faults need what the lane's server has not."""
    return any(isinstance(event.fault, DiskFull | Failover | TooManyConnections) for event in plan.events)


@contextlib.asynccontextmanager
async def open_servers(plan: Plan, workers: int) -> AsyncIterator[Servers]:
    """Servers for this plan, and so many workers, which end with the block. Raises ServerError."""
    modes = [event.fault.mode for event in plan.events if isinstance(event.fault, Failover)]
    small = any(isinstance(event.fault, DiskFull) for event in plan.events)
    settings = dict(SMALL_DISK) if small else {}
    if any(isinstance(event.fault, TooManyConnections) for event in plan.events):
        settings["max_connections"] = str(FEW[0] + FEW[1] * workers)
    if modes:
        pair = await asyncio.to_thread(
            Pair.start, modes[0], latency=LATENCY[modes[0]], settings=settings, small_disk=small
        )
        try:
            yield Servers(pair.first, pair)
        finally:
            await asyncio.to_thread(pair.close)
    else:
        server = await asyncio.to_thread(lambda: Server.start(settings=settings, small_disk=small))
        try:
            yield Servers(server)
        finally:
            await asyncio.to_thread(server.close)
