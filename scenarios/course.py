"""The course of one run, the same in every world: workload and faults side by side, then healing, then the calm phase."""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from duress.engine import Engine, observer
from duress.faults.plan import describe, describe_trigger, kind
from duress.scenarios import final, history
from duress.scenarios.final import Connection
from duress.scenarios.recorder import Recorder
from duress.scenarios.result import FaultRecord
from duress.scenarios.settings import Settings
from duress.scenarios.spec import Workload
from duress.scenarios.strikes import Strike, Strikes

LOOK_AGAIN = 0.02  # seconds


class Crew(Protocol):
    """The workers of a run."""

    broken: "asyncio.Future[None]"  # raises when the harness itself failed

    def alive(self) -> list[int]: ...
    async def respawn(self, worker: int) -> None: ...


class RunWorld:
    """The `World` that a workload sees."""

    def __init__(
        self,
        engine: Engine,
        entropy: random.Random,
        options: Mapping[str, int],
        settings: Settings,
        strikes: Strikes,
    ) -> None:
        self.engine = engine
        self.random = entropy
        self.options = options
        self.over = asyncio.Event()  # nothing more is started
        self.pieces: list[int] = []  # of the workload, as it asked for them
        self._settings = settings
        self._strikes = strikes

    def going(self, started: int, wanted: int) -> bool:
        """Whether to start more work."""
        if self._settings.only is not None:
            wanted = max(self._settings.only, default=-1) + 1
        if self._settings.until == "wanted":
            return started < wanted and not self.over.is_set()
        struck = self._strikes.used_up if self._settings.until == "healed" else self._strikes.injected
        if started >= wanted and struck:
            self.over.set()
        return not self.over.is_set()

    def wants(self, number: int) -> bool:
        """Whether this piece of the work is part of the run."""
        wanted = self._settings.only is None or number in self._settings.only
        if wanted:
            self.pieces.append(number)
        return wanted


async def run(
    world: RunWorld,
    workload: Workload,
    settings: Settings,
    strikes: Strikes,
    crew: Crew,
    recorder: Recorder,
    connect: Callable[[], AbstractAsyncContextManager[Connection]],
) -> None:
    """Workload and faults side by side; then heal; then the calm phase, in which everything must finish.

    Raises what failed in the workload or the harness, the first of several.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            guard = tasks.create_task(_broken(crew))
            timed = tasks.create_task(strikes.timed())
            work = tasks.create_task(workload(world))
            while recorder.now() < settings.max_time:
                if (world.over.is_set() or work.done()) and strikes.used_up:
                    break
                if work.done() and settings.only is not None and strikes.quiet:
                    break  # a run that is made smaller is about its work; a fault that comes later is one too many
                await asyncio.sleep(LOOK_AGAIN)
            world.over.set()
            await strikes.settle()
            timed.cancel()
            if not crew.alive():  # a plan may end all workers for good; the calm phase needs somebody
                await crew.respawn(0)
            recorder.add("harness", history.CALM_BEGAN, {})
            async with connect() as connection:
                unfinished = await _calm(connection, settings, recorder, work)
            recorder.add("harness", history.CALM_ENDED, {"unfinished": unfinished})
            work.cancel()
            guard.cancel()
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show: the first one within nested groups."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _broken(crew: Crew) -> None:
    await crew.broken


async def _calm(connection: Connection, settings: Settings, recorder: Recorder, work: "asyncio.Task[None]") -> int:
    """Wait until the workload has returned and all that was accepted has an outcome; returns how many have none."""
    deadline = recorder.now() + settings.calm
    while True:
        if work.done() or recorder.now() >= deadline:
            accepted = {facts["workflow"] for facts in recorder.facts_of(observer.ACCEPTED)}
            unfinished = len(accepted - await final.finished(connection, settings.schema))
            if not unfinished or recorder.now() >= deadline:
                return unfinished
        await asyncio.sleep(LOOK_AGAIN)


def record(strike: Strike, recorder: Recorder) -> FaultRecord:
    """What the result says of one planned fault."""
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


def why_not(strikes: Strikes) -> list[str]:
    """The planned faults that did not fire, each with the reason."""
    return [f"did not fire: {describe(strike.event)}: {strike.why_not}" for strike in strikes.all if not strike.fired]
