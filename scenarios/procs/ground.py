"""What the runs of one lane of a campaign share: a PostgreSQL, and a template to clone each run's database from."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from duress.faults.injectors.clocks import environment, set_clock
from duress.faults.needs import find_libfaketime
from duress.faults.network import Network
from duress.faults.plan import ClockJump, ClockSkew, Plan
from duress.faults.postgres import read_log
from duress.faults.postgres.guard import Guard
from duress.faults.worlds import NetworkName
from duress.scenarios.observed import Observed
from duress.scenarios.procs import world
from duress.scenarios.procs.births import Nursery, open_nursery
from duress.scenarios.procs.database import Databases
from duress.scenarios.procs.servers import Servers, needs_own, open_servers
from duress.scenarios.work import Work, furnish

MESSAGES = "messages.jsonl"
# How PostgreSQL says that a session ended otherwise than by its client's goodbye; see duress.faults.postgres.log.
ENDS = (
    "unexpected EOF on client connection with an open transaction",
    "connection to client lost",
    "terminating connection",
)


class ProcsGround:
    """Ready for runs, one after the other."""

    def __init__(
        self,
        work: Work,
        databases: Databases,
        template: str,
        nursery: Nursery,
        servers: Servers | None,
        network: Network | None,
        postgres: str,
    ) -> None:
        self.postgres = postgres
        self._work = work
        self._servers = servers
        self._databases = databases
        self._began = 0.0  # the latest run, by CLOCK_MONOTONIC
        self._lost: Counter[int] = Counter()  # in runs that had servers of their own
        self._shared = world.Shared(
            scenario=work.scenario,
            options=work.options,
            settings=work.settings,
            nursery=nursery,
            databases=databases,
            template=template,
            servers=servers,
            network=network,
            logs=work.logs,
        )

    async def observe(self, seed: int, plan: Plan) -> Observed:
        """One run."""
        self._began = time.monotonic()
        async with self._clocks(plan) as shared:
            return await self._observe(shared, seed, plan)

    @contextlib.asynccontextmanager
    async def _clocks(self, plan: Plan) -> AsyncIterator[world.Shared]:
        """Where the plan sets workers' clocks, they are born in a nursery whose clock can be set."""
        library = find_libfaketime()
        if library is None or not any(isinstance(event.fault, ClockSkew | ClockJump) for event in plan.events):
            yield self._shared
            return
        guard = await asyncio.to_thread(Guard)  # a folder that goes with us, however we end
        try:
            folder = guard.make_folder(Path(gettempdir()))
            for number in range(self._work.settings.workers):
                set_clock(world.clock_file(folder, number), 0.0)
            async with open_nursery(self._work.reference, self._work.canary, environment(library)) as nursery:
                yield replace(self._shared, nursery=nursery, clocks=folder)
        finally:
            await asyncio.to_thread(guard.close)

    async def _observe(self, shared: world.Shared, seed: int, plan: Plan) -> Observed:
        if not needs_own(plan):
            return await world.observe(shared, seed, plan)
        async with open_servers(plan, self._work.settings.workers) as servers:
            databases = Databases.on(servers.dsn)
            async with databases.template(partial(build, self._work)) as template:
                own = replace(shared, databases=databases, template=template, servers=servers)
                observed = await world.observe(own, seed, plan)
            logs = [servers.first.log_path] if servers.pair is None else list(servers.pair.log_paths)
            self._lost[seed] = sum([len(await asyncio.to_thread(lost_sessions, log)) for log in logs])
            return observed

    async def save_messages(self, folder: Path) -> None:
        """As the proxy has read them; Toxiproxy reads none."""
        from duress.faults.proxy.control import Proxy

        if isinstance(self._shared.network, Proxy):
            await self._shared.network.save_log(folder / MESSAGES, since=self._began)

    async def lost_in_transaction(self) -> Mapping[int, int]:
        """Seed → sessions of workers that PostgreSQL's log shows as lost within an open transaction.

        Empty if the log is not ours to read.
        """
        if self._servers is None:
            return {}
        shared = await asyncio.to_thread(lost_by_seed, self._servers.first.log_path, self._databases.prefix)
        return {**shared, **self._lost}


async def build(work: Work, dsn: str) -> None:
    """Make what a template has."""
    await furnish(dsn, work.scenario, work.canary, work.settings.schema)


@contextlib.asynccontextmanager
async def open_procs_ground(work: Work) -> AsyncIterator[ProcsGround]:
    """Start a server, or go to the user's; raises ServerError or DatabaseUnusable."""
    async with contextlib.AsyncExitStack() as stack:
        servers = (
            None
            if work.dsn is not None
            else await stack.enter_async_context(open_servers(Plan(), work.settings.workers))
        )
        databases = Databases.on(servers.dsn if servers else str(work.dsn))
        postgres = await databases.check()
        template = await stack.enter_async_context(databases.template(partial(build, work)))
        nursery = await stack.enter_async_context(open_nursery(work.reference, work.canary))
        network = await stack.enter_async_context(open_network(work.network))
        if network is not None and servers is None:
            network.check(str(work.dsn))
        yield ProcsGround(work, databases, template, nursery, servers, network, postgres)


@contextlib.asynccontextmanager
async def open_network(name: NetworkName) -> AsyncIterator[Network | None]:
    """What stands between workers and server."""
    if name == "none":
        yield None
    elif name == "proxy":
        from duress.faults.proxy import open_proxy

        async with open_proxy() as proxy:
            yield proxy
    else:
        from duress.faults.toxiproxy import open_toxiproxy

        async with open_toxiproxy() as toxiproxy:
            yield toxiproxy


def lost_by_seed(log: Path, databases: str) -> dict[int, int]:
    """Seed → sessions that a server's log shows as lost within an open transaction, of runs in databases of this prefix."""
    lost = Counter(database for database, _ in lost_sessions(log))
    prefix = databases + "_seed_"
    return {int(name.removeprefix(prefix)): count for name, count in lost.items() if name.startswith(prefix)}


def lost_sessions(log: Path) -> set[tuple[str, int]]:
    """(database, process) of each session of a worker that ended within an open transaction.

    One that only waited for a neighbour's session lock is not among them: it was in a statement of its own that had
    changed nothing.
    """
    return {
        (line.database, line.pid)
        for line in read_log(log)
        if line.kind == "client backend"
        and line.in_transaction
        and line.message.startswith(ENDS)
        and line.application.startswith("duress:")
        and not (line.command == "SELECT waiting" and line.xid == 0)
    }
