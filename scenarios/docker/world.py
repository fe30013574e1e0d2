"""One run in the world of containers: start, workload under faults, heal, calm phase, final state, stop."""

import asyncio
import contextlib
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from duress.faults.plan import Plan
from duress.scenarios.docker.births import INSIDE, Births, Contained
from duress.scenarios.docker.daemon import Daemon
from duress.scenarios.docker.image import Code
from duress.scenarios.docker.injector import DockerInjector
from duress.scenarios.docker.server import ContainedServer
from duress.scenarios.observed import Observed
from duress.scenarios.procs.crew import Crew
from duress.scenarios.procs.database import Databases
from duress.scenarios.procs.ground import lost_by_seed
from duress.scenarios.procs.play import Play
from duress.scenarios.procs.receiver import ReceiverServer
from duress.scenarios.procs.wire import Orders
from duress.scenarios.recorder import Recorder
from duress.scenarios.strikes import Strikes
from duress.scenarios.work import Work

RECEIVER = "receiver.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the runs of one lane share."""

    work: Work
    daemon: Daemon
    image: str
    code: Code
    network: str
    server: ContainedServer
    databases: Databases
    template: str
    folder: Path  # goes with the harness, however that ends


class Workers:
    """The crew as the injector sees it."""

    def __init__(self) -> None:
        self.crew: Crew | None = None

    def contained(self, worker: int) -> tuple[Contained, int | None] | None:
        assert self.crew is not None
        one = self.crew.now(worker)
        if one is None:
            return None
        assert isinstance(one.process, Contained)
        return one.process, one.incarnation

    async def respawn(self, worker: int) -> None:
        assert self.crew is not None
        await self.crew.respawn(worker)


async def observe(shared: Shared, seed: int, plan: Plan) -> Observed:
    """Run the scenario once under `plan` and return what was seen. Raises what makes the run worthless."""
    began = time.monotonic()
    work = shared.work
    settings, scenario = work.settings, work.scenario
    recorder = Recorder()
    strikes = Strikes(plan, recorder)
    logs = work.logs / f"seed-{seed}"
    logs.mkdir(parents=True, exist_ok=True)
    folder = shared.folder / f"seed-{seed}"
    folder.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        dsn = await stack.enter_async_context(shared.databases.fresh(f"seed_{seed}", shared.template))
        receiver = ReceiverServer(
            scenario.answer,
            lambda name, facts: recorder.add("receiver", name, facts),
            random.Random(f"receiver {seed}"),
            address=str(folder / RECEIVER),
        )
        await stack.enter_async_context(receiver)
        births = Births(shared.daemon, shared.image, shared.code, shared.network, folder, work.reference, work.canary)
        workers = Workers()
        worker_dsn = shared.server.worker_dsn(dsn)
        crew = workers.crew = Crew(
            lambda number: Orders(
                dsn=worker_dsn, name=f"worker-{number}", settings=settings, receiver=f"{INSIDE}/{RECEIVER}", armed=()
            ),
            strikes.triggers.armed_for,
            strikes.held,
            recorder,
            logs,
            births.worker,
        )
        stack.push_async_callback(births.remove)
        stack.push_async_callback(crew.kill)
        injector = await stack.enter_async_context(
            DockerInjector(shared.daemon, shared.network, shared.server, workers, dsn)
        )
        strikes.attach(crew, injector)
        play = Play(
            began=began,
            seed=seed,
            scenario=scenario,
            options=work.options,
            settings=settings,
            recorder=recorder,
            strikes=strikes,
            crew=crew,
        )
        offset, state = await play.run(dsn)
    return play.observed(offset, state)


class DockerGround:
    """Ready for runs, one after the other."""

    def __init__(self, shared: Shared, postgres: str) -> None:
        self.postgres = postgres
        self._shared = shared

    async def observe(self, seed: int, plan: Plan) -> Observed:
        """One run."""
        return await observe(self._shared, seed, plan)

    async def save_messages(self, folder: Path) -> None:
        """Nothing stands in between."""

    async def lost_in_transaction(self) -> Mapping[int, int]:
        """Seed → sessions of workers that PostgreSQL's log shows as lost within an open transaction."""
        return await asyncio.to_thread(lost_by_seed, self._shared.server.log_path, self._shared.databases.prefix)
