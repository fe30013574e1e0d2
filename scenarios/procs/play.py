"""What a run of real workers goes through once they can be born and struck, wherever they live."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from duress.engine import Engine
from duress.scenarios import course, final
from duress.scenarios.history import Evidence, FinalState, Survived
from duress.scenarios.observed import Observed
from duress.scenarios.procs import database
from duress.scenarios.procs.crew import Crew
from duress.scenarios.recorder import ClientObserver, Recorder
from duress.scenarios.settings import Settings
from duress.scenarios.spec import Scenario
from duress.scenarios.strikes import Strikes


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One run; `began` is when it was asked for, by CLOCK_MONOTONIC."""

    began: float
    seed: int
    scenario: Scenario
    options: Mapping[str, int]
    settings: Settings
    recorder: Recorder
    strikes: Strikes
    crew: Crew

    async def run(self, dsn: str) -> tuple[float, FinalState]:
        """Start the workers, let the run take its course, stop them. Returns how far the database's clock is from the
        history's, and the final state. Raises what makes the run worthless.
        """
        settings, recorder, scenario = self.settings, self.recorder, self.scenario
        async with Engine(dsn, schema=settings.schema, observer=ClientObserver(recorder)) as engine:
            await self.crew.start(settings.workers)
            recorder.begin()
            entropy = random.Random(f"workload {self.seed}")
            world = course.RunWorld(engine, entropy, self.options, settings, self.strikes)
            connect = partial(database.connect, dsn)
            await course.run(world, scenario.workload, settings, self.strikes, self.crew, recorder, connect)
            async with database.connect(dsn) as connection:
                offset = await database.clock_offset(connection) + recorder.began
                state = await final.read_final_state(connection, settings.schema, scenario.tables)
            await self.crew.stop()
        return offset, state

    def observed(self, offset: float, state: FinalState, survived: Survived | None = None) -> Observed:
        """What was seen, once nothing of the run is left that could add to its history."""
        evidence = Evidence(
            seed=self.seed,
            history=self.recorder.history(),
            final=state,
            clock_offset=offset,
            lease=self.settings.lease,
            workers=self.settings.workers,
            survived=survived,
        )
        return Observed(
            evidence=evidence,
            faults=tuple(course.record(strike, self.recorder) for strike in self.strikes.all),
            seconds=time.monotonic() - self.began,
            doubts=(*self.crew.unplanned, *course.why_not(self.strikes)),
        )
