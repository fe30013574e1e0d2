"""One run in the simulated world: workers, workload, receiver and harness in one process, on virtual time."""

import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import msgspec
from psycopg import AsyncConnection

from duress.engine import Engine
from duress.engine.assertions import listening
from duress.faults.plan import Plan
from duress.scenarios import course, final, receiver
from duress.scenarios.asserted import Once
from duress.scenarios.final import Connection
from duress.scenarios.history import Entry, Evidence, FinalState
from duress.scenarios.observed import Diverged, Observed, Simulated
from duress.scenarios.recorder import ClientObserver, Recorder
from duress.scenarios.result import FaultRecord
from duress.scenarios.settings import Settings, Simulating
from duress.scenarios.sim.crew import SimCrew
from duress.scenarios.sim.divergence import divergence
from duress.scenarios.sim.faults.scene import Scene
from duress.scenarios.sim.injector import SimInjector
from duress.scenarios.sim.receiver import SimReceiver
from duress.scenarios.sim.statements import StatementInjector, Statements
from duress.scenarios.sim.wire import Variation
from duress.scenarios.spec import Scenario
from duress.scenarios.strikes import Strikes
from duress.simulator import Choices, Exchange, Outcome, Program, Run, Simulation, tokens
from duress.simulator import Diverged as ProgramDiverged

MAIN: Final = "main"  # the harness's own process


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the runs of one cell share."""

    scenario: Scenario
    options: Mapping[str, int]
    settings: Settings
    simulation: Simulation
    simulating: Simulating
    code: str  # its fingerprint

    def varied(self, variation: Variation) -> "Shared":
        """The same, for a run that is sized or decided in its own way."""
        how = variation
        return replace(self, options=how.options, settings=how.settings, simulating=how.simulating)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the harness's process has seen when the run ends."""

    history: tuple[Entry, ...]
    clock_offset: float
    clock_jumps: tuple[tuple[float, float], ...]
    faults: tuple[FaultRecord, ...]
    doubts: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    pieces: tuple[int, ...]
    began: float
    # Bytes in the server's log by then; what is written later ends sessions in real time. No part of the run.
    logged: int = field(repr=False)


def observe(shared: Shared, seed: int, plan: Plan, *, twice: bool = False) -> Observed:
    """Run the scenario under `plan`; `twice`: raise Diverged if a second run is not the same to the byte.

    Raises what makes the run worthless.
    """

    decided: list[Choices] = []

    async def harness(run: Run) -> object:
        decided.append(run.choices)
        return await _harness(run, shared, seed, plan)

    began, log = time.monotonic(), shared.simulation.cell.server.log_path
    written = log.stat().st_size
    try:
        outcome = _played(shared, harness, seed, twice=twice)
    except ProgramDiverged as error:
        raise Diverged(divergence(seed, error)) from None
    seen: Seen = outcome.result
    evidence = Evidence(
        seed=seed,
        history=seen.history,
        final=_final(shared),
        clock_offset=seen.clock_offset,
        clock_jumps=seen.clock_jumps,
        lease=shared.settings.lease,
        workers=shared.settings.workers,
    )
    choices = decided[-1]
    simulated = Simulated(
        hash=_hash(outcome),
        code=shared.code,
        twice=twice,
        misfits=choices.misfits,
        pieces=seen.pieces,
        began=seen.began,
    )
    if shared.simulating.decisions:
        simulated = replace(simulated, choices=choices.recorded)
    if shared.simulating.server_log:
        simulated = replace(simulated, server_log=log.read_bytes()[written : seen.logged].decode("utf-8", "replace"))
    if shared.simulating.trace:
        simulated = replace(simulated, trace=outcome.told, choices=outcome.recorded, exchanges=seen.exchanges)
    return Observed(evidence, seen.faults, time.monotonic() - began, seen.doubts, simulated)


def _hash(outcome: Outcome) -> str:
    """Over all that happened in the simulation, and the history: a receiver sees what no session does."""
    digest = blake2b(bytes.fromhex(outcome.hash), digest_size=16)
    digest.update(msgspec.msgpack.encode(outcome.result.history))
    return digest.hexdigest()


def _played(shared: Shared, harness: Program, seed: int, *, twice: bool) -> Outcome:
    """A run as the simulator knows it, by the choices of the seed or by recorded ones."""
    simulation, how = shared.simulation, shared.simulating
    token = None if how.choices is None else tokens.encode(seed, how.choices)
    if twice:
        return simulation.check_twice(harness, seed=seed, token=token, trace=how.trace)
    return simulation.run(harness, seed=seed, token=token, trace=how.trace, fresh=how.fresh)


def _final(shared: Shared) -> FinalState:
    """Read when the run is over, and no part of it: there are transaction numbers in it, which differ from run to run."""
    queries = final.questions(shared.settings.schema, shared.scenario.tables)
    return final.state(shared.simulation.read(queries))


async def _harness(run: Run, shared: Shared, seed: int, plan: Plan) -> Seen:
    """The harness's own process."""
    scenario, settings = shared.scenario, shared.settings
    recorder = Recorder(lambda: run.now, partial(_remark, run) if shared.simulating.trace else None)
    strikes = Strikes(plan, recorder)
    crew = SimCrew(run, settings, strikes.triggers.pulls, strikes.held, recorder)
    scene = Scene(run, crew, recorder, scenario.contention)
    injector = StatementInjector(run, recorder, SimInjector(scene))
    strikes.attach(crew, injector)
    statements = Statements(run, crew, strikes, injector)
    outside = SimReceiver(
        scenario.answer,
        lambda name, facts: recorder.add("receiver", name, facts),
        random.Random(f"receiver {seed}"),
    )
    receiver.install(outside)
    async with Engine(run.dsn, schema=settings.schema, observer=ClientObserver(recorder)) as engine, outside:
        with listening(Once(crew.said)):
            crew.follow(statements.attend())
            await crew.start(settings.workers)
            recorder.begin()
            world = course.RunWorld(engine, random.Random(f"workload {seed}"), shared.options, settings, strikes)
            before = len(run.sessions.stops.exchanges)
            await course.run(world, scenario.workload, settings, strikes, crew, recorder, lambda: _connect(run))
            exchanges = tuple(run.sessions.stops.exchanges[before:])
            offset = time.time() - run.now + recorder.began  # the server shows the same time
            await crew.stop()
    return Seen(
        history=recorder.history(),
        clock_offset=offset,
        clock_jumps=tuple((at - recorder.began, seconds) for at, seconds in scene.clock_jumps),
        faults=tuple(course.record(strike, recorder) for strike in strikes.all),
        doubts=(*crew.unplanned, *course.why_not(strikes)),
        exchanges=exchanges,
        pieces=tuple(world.pieces),
        began=recorder.began,
        logged=shared.simulation.cell.server.log_path.stat().st_size,
    )


def _remark(run: Run, source: str, name: str, facts: Mapping[str, Any], at: float | None) -> None:
    """An observation, in the trace. `facts` hold names, ids and numbers, never values of the user's."""
    process = source.replace(" ", "-") if source.startswith("worker ") else MAIN
    named = (key for key in facts if facts[key] is not None and not (key == "worker" and process != MAIN))
    told = " ".join(f"{key}={facts[key]}" for key in named)
    run.remark(process, "point", f"{name} {told}".rstrip(), at)


@contextlib.asynccontextmanager
async def _connect(run: Run) -> AsyncIterator[Connection]:
    connection: Connection = await AsyncConnection.connect(run.dsn, autocommit=True, application_name="duress:harness")
    async with connection:
        yield connection
