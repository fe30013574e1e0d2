"""Seeds of a campaign run by the workers of a Dask cluster: `duress run … --world sim --cluster ADDRESS`.

Only the simulation is done there. Plans are drawn, runs judged, and results written here, as for cells of this machine, so
the report is the same. When a worker is lost Dask gives its seeds to others.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from duress.faults.plan import Plan
from duress.scenarios.observed import Observed
from duress.scenarios.sim import cluster_worker
from duress.scenarios.sim.cluster_worker import About, Assignment
from duress.scenarios.sim.ground import heard
from duress.scenarios.sim.wire import Told

if TYPE_CHECKING:
    from duress.scenarios.work import Work

ANSWER_BOUND: Final = 10.0  # seconds for the scheduler
AHEAD: Final = 2  # seeds under way for each thread: one runs while the other is judged here, or travels


class ClusterUnusable(Exception):
    """The cluster cannot run these seeds; the message says why and what to do."""


class Cluster:
    """A cluster whose workers all run the same code as we do."""

    def __init__(self, client: Any, about: About, threads: int) -> None:
        self._client = client
        self._about = about
        self.lanes = AHEAD * threads
        self.postgres = about.postgres

    def ground(self, work: "Work") -> "ClusterGround":
        """Where runs of this work take place."""
        assignment = Assignment(
            reference=work.reference,
            canary=work.canary,
            options=dict(work.options),
            settings=work.settings,
            simulating=work.simulating,
            about=self._about,
        )
        return ClusterGround(self._client, self.postgres, msgspec.msgpack.encode(assignment))


class ClusterGround:
    """Ready for any number of runs at a time."""

    def __init__(self, client: Any, postgres: str, assignment: bytes) -> None:
        self._client = client
        self._assignment = assignment
        self.postgres = postgres

    async def observe(self, seed: int, plan: Plan) -> Observed:
        """One run, by whichever worker is free. Raises as a ground of this machine does."""
        future = self._client.submit(
            cluster_worker.observe, self._assignment, seed, msgspec.msgpack.encode(plan), pure=False, key=None
        )
        try:
            told = await future
        except asyncio.CancelledError:
            await future.cancel()
            raise
        return heard(msgspec.msgpack.decode(told, type=Told))

    async def save_messages(self, folder: Path) -> None:
        """A simulated run is its own record."""

    async def lost_in_transaction(self) -> Mapping[int, int]:
        """Not counted here."""
        return {}


@contextlib.asynccontextmanager
async def open_cluster(address: str, reference: str) -> AsyncIterator[Cluster]:
    """Connect to a scheduler and see that its workers will do. Raises ClusterUnusable."""
    try:
        import distributed
    except ImportError:
        raise ClusterUnusable("Dask is not installed here: pip install 'duress[cluster]'") from None
    try:
        connect: Any = distributed.Client
        client = await connect(address, asynchronous=True, timeout=ANSWER_BOUND, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterUnusable(
            f"no Dask scheduler answers at {address}: {error}; start one with `dask scheduler`"
        ) from error
    async with client:
        threads = sum((await client.nthreads()).values())
        if not threads:
            raise ClusterUnusable(f"the scheduler at {address} has no workers; start some: dask worker {address}")
        yield Cluster(client, await _agreed(client, reference), threads)


async def _agreed(client: Any, reference: str) -> About:
    """What all workers run, which must be what we run."""
    try:
        answers: dict[str, bytes] = await client.run(cluster_worker.about, reference)
    except Exception as error:
        raise ClusterUnusable(
            f"a worker cannot run {reference!r}: {type(error).__name__}: {error}; the same version of duress, and the "
            "scenario's module, must be installed where each worker runs"
        ) from error
    own = msgspec.msgpack.decode(cluster_worker.about(reference), type=About)
    for address, answer in answers.items():
        theirs = msgspec.msgpack.decode(answer, type=About)
        if theirs != own:
            raise ClusterUnusable(
                f"worker {address} has {_told(theirs)}, and here is {_told(own)}; a seed is the same run only where these"
                " are the same"
            )
    return own


def _told(about: About) -> str:
    return f"build {about.build}, Python {about.python}, PostgreSQL {about.postgres}"
