"""What a campaign is about, and what it needs of a world: a ground on which runs take place, one after the other."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from psycopg import AsyncConnection

from duress.engine import Engine
from duress.faults.plan import Plan
from duress.faults.worlds import NetworkName, World
from duress.scenarios.observed import Observed
from duress.scenarios.settings import Settings, Simulating
from duress.scenarios.spec import Scenario

if TYPE_CHECKING:
    from duress.scenarios.sim.cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a campaign is about."""

    scenario: Scenario
    reference: str
    world: World = "procs"
    options: Mapping[str, int]
    settings: Settings
    canary: str | None
    dsn: str | None  # a user's own server; None: we start one
    network: NetworkName = "proxy"  # between real workers and the server
    logs: Path
    simulating: Simulating = field(default_factory=Simulating)  # of the simulated world
    cluster: "Cluster | None" = None  # whose workers simulate; None: cells of this machine


class Ground(Protocol):
    """Ready for runs, one after the other."""

    @property
    def postgres(self) -> str:
        """The server's version."""
        ...

    async def observe(self, seed: int, plan: Plan) -> Observed:
        """One run."""
        ...

    async def lost_in_transaction(self) -> Mapping[int, int]:
        """Seed → sessions of workers that PostgreSQL's log shows as lost within an open transaction; empty if unknown."""
        ...

    async def save_messages(self, folder: Path) -> None:
        """Write down which messages passed between workers and server in the latest run, where something reads them."""
        ...


@contextlib.asynccontextmanager
async def open_ground(work: Work, lane: int) -> AsyncIterator[Ground]:
    """The ground of one lane of a campaign. Raises what makes all runs impossible: ServerError, DatabaseUnusable."""
    if work.cluster is not None:
        yield work.cluster.ground(work)
    elif work.world == "sim":
        from duress.scenarios.sim.ground import open_sim_ground

        async with open_sim_ground(work, lane) as simulated:
            yield simulated
    elif work.world == "docker":
        from duress.scenarios.docker.ground import open_docker_ground

        async with open_docker_ground(work) as contained:
            yield contained
    else:
        from duress.scenarios.procs.ground import open_procs_ground

        async with open_procs_ground(work) as real:
            yield real


async def furnish(dsn: str, scenario: Scenario, canary: str | None, schema: str) -> None:
    """Make the engine's schema and the scenario's tables in a new database, broken as the canary wants it."""
    async with Engine(dsn, schema=schema) as engine:
        await engine.migrate()
    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
        if canary is not None:
            from duress.scenarios.canaries import apply_to_database

            await apply_to_database(connection, canary, schema)
        await scenario.setup(connection)
