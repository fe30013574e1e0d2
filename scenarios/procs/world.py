"""One run in the procs world: start, workload under faults, heal, calm phase, final state, stop.

Whatever happens on the way, nothing that was started here is left when `observe` returns or raises.
"""

import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import OperationalError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from duress.faults.injectors.procs import ProcsInjector
from duress.faults.injectors.target import WorkerProcess
from duress.faults.journal import Journal
from duress.faults.plan import Plan
from duress.scenarios import final
from duress.scenarios.history import FinalState, Survived
from duress.scenarios.observed import Observed
from duress.scenarios.procs import database
from duress.scenarios.procs.births import Nursery
from duress.scenarios.procs.crew import Crew
from duress.scenarios.procs.database import Databases
from duress.scenarios.procs.play import Play
from duress.scenarios.procs.receiver import ReceiverServer
from duress.scenarios.procs.wire import Orders
from duress.scenarios.recorder import Recorder
from duress.scenarios.settings import Settings
from duress.scenarios.spec import Scenario
from duress.scenarios.strikes import Strikes

if TYPE_CHECKING:
    from duress.faults.network import Network
    from duress.faults.postgres import Server
    from duress.faults.postgres.pair import Pair
    from duress.scenarios.procs.servers import Servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the runs of one lane share."""

    scenario: Scenario
    options: Mapping[str, int]
    settings: Settings
    nursery: Nursery
    databases: Databases
    template: str
    servers: "Servers | None"  # None: a user's own
    network: "Network | None"  # None: workers connect to the server themselves
    logs: Path
    clocks: Path | None = None  # the folder of the files by which the workers' clocks are set, where they can be


def clock_file(folder: Path, worker: int) -> Path:
    """The file that sets a worker's clock."""
    return folder / f"clock-{worker}"


class RunTarget:
    """What the injectors see of a run."""

    def __init__(self, dsn: str, links: Mapping[int, str], shared: Shared, recorder: Recorder) -> None:
        self.dsn = dsn
        self.network = shared.network
        self.contention = shared.scenario.contention
        self.crew: Crew | None = None
        self.survived: Survived | None = None
        self._links = links
        self._shared = shared
        self._recorder = recorder

    def clock_file(self, worker: int) -> Path | None:
        return None if self._shared.clocks is None else clock_file(self._shared.clocks, worker)

    def clock(self, worker: int) -> tuple[float, float] | None:
        assert self.crew is not None
        one = self.crew.now(worker)
        return None if one is None else one.clock

    @property
    def server(self) -> "Server | None":
        return None if self._shared.servers is None else self._shared.servers.server

    @property
    def pair(self) -> "Pair | None":
        return None if self._shared.servers is None else self._shared.servers.pair

    async def primary_lost(self) -> None:
        """Keep what the standby has, before anybody writes there."""
        pair = self.pair
        assert pair is not None
        at = self._recorder.now()
        name = str(conninfo_to_dict(self.dsn)["dbname"])
        try:
            async with database.connect(pair.standby.dsn(name)) as connection:
                state = await final.read_final_state(connection, self._shared.settings.schema, {})
        except OperationalError:  # so young that the standby has not heard of the database
            state = FinalState((), (), ())
        self.survived = Survived(pair.mode, at, state)

    def link(self, worker: int) -> str:
        return self._links[worker]

    def process(self, worker: int) -> WorkerProcess | None:
        assert self.crew is not None
        return self.crew.process(worker)

    async def respawn(self, worker: int) -> None:
        assert self.crew is not None
        await self.crew.respawn(worker)


async def observe(shared: Shared, seed: int, plan: Plan) -> Observed:
    """Run the scenario once under `plan` and return what was seen. Raises what makes the run worthless."""
    began = time.monotonic()
    settings, scenario = shared.settings, shared.scenario
    recorder = Recorder()
    strikes = Strikes(plan, recorder)
    logs = shared.logs / f"seed-{seed}"
    logs.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(shared.databases.fresh(f"seed_{seed}", shared.template))
        receiver = ReceiverServer(
            scenario.answer,
            lambda name, facts: recorder.add("receiver", name, facts),
            random.Random(f"receiver {seed}"),
        )
        await stack.enter_async_context(receiver)
        links = await stack.enter_async_context(_linked(shared, dsn))
        orders = _orders(shared, links, receiver.address)
        target = RunTarget(dsn, links, shared, recorder)
        crew = target.crew = Crew(
            orders, strikes.triggers.armed_for, strikes.held, recorder, logs, shared.nursery.worker
        )
        stack.push_async_callback(crew.kill)
        injector = await stack.enter_async_context(ProcsInjector(target, clock=time.monotonic, journal=Journal()))
        strikes.attach(crew, injector)
        play = Play(
            began=began,
            seed=seed,
            scenario=scenario,
            options=shared.options,
            settings=settings,
            recorder=recorder,
            strikes=strikes,
            crew=crew,
        )
        offset, state = await play.run(dsn)
    return play.observed(offset, state, target.survived)


@contextlib.asynccontextmanager
async def _linked(shared: Shared, dsn: str) -> AsyncIterator[Mapping[int, str]]:
    """Worker → the DSN by which it reaches its database."""
    workers = range(shared.settings.workers)
    if shared.network is None:
        yield dict.fromkeys(workers, dsn)
        return
    if shared.network.tcp_only and shared.servers is not None:
        dsn = shared.servers.over_tcp(str(conninfo_to_dict(dsn)["dbname"]))
    try:
        yield {number: await shared.network.listen(number, dsn) for number in workers}
    finally:
        for number in workers:
            await shared.network.close_port(number)


def _orders(shared: Shared, links: Mapping[int, str], receiver: str) -> Callable[[int], Orders]:
    """Behind a pair, every other worker leaves it to libpq to find the server that takes writes; the others come to a
    standby as well, which is read-only until it is promoted.
    """
    settings = shared.settings
    pair = shared.servers is not None and shared.servers.pair is not None

    def dsn_of(number: int) -> str:
        dsn = links[number]
        return make_conninfo(dsn, target_session_attrs="any") if pair and number % 2 else dsn

    def clock_of(number: int) -> str | None:
        return None if shared.clocks is None else str(clock_file(shared.clocks, number))

    return lambda number: Orders(
        dsn=dsn_of(number),
        name=f"worker-{number}",
        settings=settings,
        receiver=receiver,
        armed=(),
        clock=clock_of(number),
    )
