"""What the runs of one lane of a campaign share: a PostgreSQL, and a template to clone each run's database from."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from duress.faults.plan import Plan
from duress.faults.postgres import Server, read_log
from duress.scenarios.observed import Observed
from duress.scenarios.procs import world
from duress.scenarios.procs.births import Nursery, open_nursery
from duress.scenarios.procs.database import Databases
from duress.scenarios.work import Work, furnish

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
        server: Server | None,
        postgres: str,
    ) -> None:
        self.postgres = postgres
        self._server = server
        self._databases = databases
        self._shared = world.Shared(
            scenario=work.scenario,
            options=work.options,
            settings=work.settings,
            nursery=nursery,
            databases=databases,
            template=template,
            server=server,
            logs=work.logs,
        )

    async def observe(self, seed: int, plan: Plan) -> Observed:
        """One run."""
        return await world.observe(self._shared, seed, plan)

    async def lost_in_transaction(self) -> Mapping[int, int]:
        """Seed → sessions of workers that PostgreSQL's log shows as lost within an open transaction.

        Empty if the log is not ours to read.
        """
        if self._server is None:
            return {}
        lost = Counter(database for database, _ in await asyncio.to_thread(lost_sessions, self._server.log_path))
        prefix = self._databases.prefix + "_seed_"
        return {int(name.removeprefix(prefix)): count for name, count in lost.items() if name.startswith(prefix)}


@contextlib.asynccontextmanager
async def open_procs_ground(work: Work) -> AsyncIterator[ProcsGround]:
    """Start a server, or go to the user's; raises ServerError or DatabaseUnusable."""
    async with contextlib.AsyncExitStack() as stack:
        server = None
        if work.dsn is None:
            server = await asyncio.to_thread(Server.start)
            stack.push_async_callback(asyncio.to_thread, server.close)
        databases = Databases.on(server.dsn() if server else str(work.dsn))
        postgres = await databases.check()

        async def build(dsn: str) -> None:
            await furnish(dsn, work.scenario, work.canary, work.settings.schema)

        template = await stack.enter_async_context(databases.template(build))
        nursery = await stack.enter_async_context(open_nursery(work.reference, work.canary))
        yield ProcsGround(work, databases, template, nursery, server, postgres)


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
