"""One run in the simulated world: workers, workload, receiver and harness in one process, on virtual time."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from psycopg import AsyncConnection

from duress.engine import Engine
from duress.faults.plan import Plan
from duress.scenarios import course, receiver
from duress.scenarios.final import Connection, read_final_state
from duress.scenarios.history import Entry, Evidence, FinalState
from duress.scenarios.observed import Observed
from duress.scenarios.recorder import ClientObserver, Recorder
from duress.scenarios.result import FaultRecord
from duress.scenarios.settings import Settings
from duress.scenarios.sim.crew import SimCrew
from duress.scenarios.sim.faults.scene import Scene
from duress.scenarios.sim.injector import SimInjector
from duress.scenarios.sim.receiver import SimReceiver
from duress.scenarios.spec import Scenario
from duress.scenarios.strikes import Strikes
from duress.simulator import Run, Simulation


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the runs of one cell share."""

    scenario: Scenario
    options: Mapping[str, int]
    settings: Settings
    simulation: Simulation


@dataclass(frozen=True, slots=True)
class Seen:
    """What the harness's process has seen when the run ends."""

    history: tuple[Entry, ...]
    clock_offset: float
    faults: tuple[FaultRecord, ...]
    doubts: tuple[str, ...]


def observe(shared: Shared, seed: int, plan: Plan, *, twice: bool = False) -> Observed:
    """Run the scenario under `plan`; `twice`: raise Diverged if a second run is not the same to the byte.

    Raises what makes the run worthless.
    """

    async def harness(run: Run) -> object:
        return await _harness(run, shared, seed, plan)

    began = time.monotonic()
    run = shared.simulation.check_twice if twice else shared.simulation.run
    seen: Seen = run(harness, seed=seed).result
    evidence = Evidence(
        seed=seed,
        history=seen.history,
        final=asyncio.run(_final(shared)),
        clock_offset=seen.clock_offset,
        lease=shared.settings.lease,
        workers=shared.settings.workers,
    )
    return Observed(evidence, seen.faults, time.monotonic() - began, seen.doubts)


async def _final(shared: Shared) -> FinalState:
    """Read when the run is over, and no part of it: there are transaction numbers in it, which differ from run to run."""
    async with await AsyncConnection.connect(shared.simulation.dsn, autocommit=True) as connection:
        return await read_final_state(connection, shared.settings.schema, shared.scenario.tables)


async def _harness(run: Run, shared: Shared, seed: int, plan: Plan) -> Seen:
    """The harness's own process."""
    scenario, settings = shared.scenario, shared.settings
    recorder = Recorder()
    strikes = Strikes(plan, recorder)
    crew = SimCrew(run, settings, strikes.triggers.armed_for, strikes.held, recorder)
    strikes.attach(crew, SimInjector(Scene(run, crew, recorder, scenario.contention)))
    outside = SimReceiver(
        scenario.answer,
        lambda name, facts: recorder.add("receiver", name, facts),
        random.Random(f"receiver {seed}"),
    )
    receiver.install(outside)
    async with Engine(run.dsn, schema=settings.schema, observer=ClientObserver(recorder)) as engine, outside:
        await crew.start(settings.workers)
        recorder.begin()
        world = course.RunWorld(engine, random.Random(f"workload {seed}"), shared.options, strikes)
        await course.run(world, scenario.workload, settings, strikes, crew, recorder, lambda: _connect(run))
        offset = time.time() - time.monotonic() + recorder.began  # the server shows the same time
        await crew.stop()
    return Seen(
        history=recorder.history(),
        clock_offset=offset,
        faults=tuple(course.record(strike, recorder) for strike in strikes.all),
        doubts=(*crew.unplanned, *course.why_not(strikes)),
    )


@contextlib.asynccontextmanager
async def _connect(run: Run) -> AsyncIterator[Connection]:
    connection: Connection = await AsyncConnection.connect(run.dsn, autocommit=True, application_name="duress:harness")
    async with connection:
        yield connection
