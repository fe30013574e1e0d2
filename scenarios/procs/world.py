"""One run in the procs world: start, workload under faults, heal, calm phase, final state, stop.

Whatever happens on the way, nothing that was started here is left when `observe` returns or raises.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from duress.engine import Engine, observer
from duress.faults.injectors.procs import ProcsInjector
from duress.faults.injectors.target import WorkerProcess
from duress.faults.journal import Journal
from duress.faults.plan import Plan, describe, describe_trigger, kind
from duress.scenarios import history
from duress.scenarios.history import Evidence
from duress.scenarios.observed import Observed
from duress.scenarios.procs import database, final
from duress.scenarios.procs.births import Nursery
from duress.scenarios.procs.crew import Crew
from duress.scenarios.procs.database import Databases
from duress.scenarios.procs.receiver import ReceiverServer
from duress.scenarios.procs.recorder import ClientObserver, Recorder
from duress.scenarios.procs.settings import Settings
from duress.scenarios.procs.strikes import Strike, Strikes
from duress.scenarios.procs.wire import Orders
from duress.scenarios.result import FaultRecord
from duress.scenarios.spec import Scenario

if TYPE_CHECKING:
    from duress.faults.postgres import Server

LOOK_AGAIN = 0.02  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the runs of one lane share."""

    scenario: Scenario
    options: Mapping[str, int]
    settings: Settings
    nursery: Nursery
    databases: Databases
    template: str
    server: "Server | None"  # None: a user's own
    logs: Path


class RunWorld:
    """The `World` that a workload sees."""

    def __init__(self, engine: Engine, entropy: random.Random, options: Mapping[str, int], strikes: Strikes) -> None:
        self.engine = engine
        self.random = entropy
        self.options = options
        self.over = asyncio.Event()  # nothing more is started
        self._strikes = strikes

    def going(self, started: int, wanted: int) -> bool:
        """Whether to start more work."""
        if not self.over.is_set() and started >= wanted and self._strikes.used_up:
            self.over.set()
        return not self.over.is_set()


class RunTarget:
    """What the injectors see of a run."""

    def __init__(self, dsn: str, server: "Server | None") -> None:
        self.dsn = dsn
        self.server = server
        self.crew: Crew | None = None

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
        orders = _orders(shared, dsn, receiver.address)
        target = RunTarget(dsn, shared.server)
        crew = target.crew = Crew(
            orders, strikes.triggers.armed_for, strikes.held, recorder, logs, shared.nursery.spawn
        )
        stack.push_async_callback(crew.kill)
        injector = await stack.enter_async_context(ProcsInjector(target, clock=time.monotonic, journal=Journal()))
        strikes.attach(crew, injector)
        client = Engine(dsn, schema=settings.schema, observer=ClientObserver(recorder))
        engine = await stack.enter_async_context(client)
        await crew.start(settings.workers)
        recorder.begin()
        world = RunWorld(engine, random.Random(f"workload {seed}"), shared.options, strikes)
        try:
            await _work(world, shared, strikes, crew, recorder, dsn)
        except BaseExceptionGroup as group:
            raise _first(group) from None
        async with database.connect(dsn) as connection:
            offset = await database.clock_offset(connection) + recorder.began
            state = await final.read_final_state(connection, settings.schema, scenario.tables)
        await crew.stop()
    evidence = Evidence(
        seed=seed,
        history=recorder.history(),
        final=state,
        clock_offset=offset,
        lease=settings.lease,
        workers=settings.workers,
    )
    return Observed(
        evidence=evidence,
        faults=tuple(_record(strike, recorder) for strike in strikes.all),
        seconds=time.monotonic() - began,
        doubts=(*crew.unplanned, *_why_not(strikes)),
    )


def _orders(shared: Shared, dsn: str, receiver: str) -> Callable[[int], Orders]:
    settings = shared.settings
    return lambda number: Orders(
        dsn=dsn,
        schema=settings.schema,
        name=f"worker-{number}",
        queues=(settings.queue,),
        concurrency=settings.concurrency,
        lease=settings.lease,
        heartbeat=settings.heartbeat,
        poll=settings.poll,
        receiver=receiver,
        armed=(),
    )


async def _work(world: RunWorld, shared: Shared, strikes: Strikes, crew: Crew, recorder: Recorder, dsn: str) -> None:
    """Workload and faults side by side; then heal; then the calm phase, in which everything must finish."""
    settings = shared.settings
    async with asyncio.TaskGroup() as tasks:
        guard = tasks.create_task(_broken(crew))
        timed = tasks.create_task(strikes.timed())
        workload = tasks.create_task(shared.scenario.workload(world))
        while recorder.now() < settings.max_time and not world.over.is_set():
            if workload.done() and strikes.used_up:
                break
            await asyncio.sleep(LOOK_AGAIN)
        world.over.set()
        await strikes.settle()
        timed.cancel()
        if not crew.alive():  # a plan may end all workers for good; the calm phase needs somebody
            await crew.respawn(0)
        recorder.add("harness", history.CALM_BEGAN, {})
        async with database.connect(dsn) as connection:
            unfinished = await _calm(connection, shared, recorder, workload)
        recorder.add("harness", history.CALM_ENDED, {"unfinished": unfinished})
        workload.cancel()
        guard.cancel()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show: the first one within nested groups."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _broken(crew: Crew) -> None:
    await crew.broken


async def _calm(
    connection: database.Connection, shared: Shared, recorder: Recorder, workload: "asyncio.Task[None]"
) -> int:
    """Wait until the workload has returned and all that was accepted has an outcome; returns how many have none."""
    deadline = recorder.now() + shared.settings.calm
    while True:
        accepted = {facts["workflow"] for facts in recorder.facts_of(observer.ACCEPTED)}
        unfinished = len(accepted - await final.finished(connection, shared.settings.schema))
        if (workload.done() and not unfinished) or recorder.now() >= deadline:
            return unfinished
        await asyncio.sleep(LOOK_AGAIN)


def _record(strike: Strike, recorder: Recorder) -> FaultRecord:
    injection = strike.injection

    def relative(moment: float | None) -> float | None:
        return None if moment is None else moment - recorder.began

    return FaultRecord(
        kind=kind(strike.event.fault),
        worker=strike.worker,
        trigger=describe_trigger(strike.event),
        asked=relative(injection.asked) if injection else None,
        effect=relative(injection.effect) if injection else None,
        healed=relative(injection.healed) if injection else None,
        confirmed_by=injection.confirmed_by if injection else None,
    )


def _why_not(strikes: Strikes) -> list[str]:
    return [f"did not fire: {describe(strike.event)}: {strike.why_not}" for strike in strikes.all if not strike.fired]
