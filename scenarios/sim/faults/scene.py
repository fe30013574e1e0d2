"""What all faults of one simulated run share: whom they strike, the clock, and how long they wait for their moment."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import psycopg

from duress.faults.contention import Contention
from duress.faults.injectors.injection import Injection
from duress.faults.observe import Sighting
from duress.faults.plan import AtPoint
from duress.scenarios.recorder import Recorder
from duress.scenarios.sim.crew import SimCrew, Worker
from duress.simulator import Run

# Virtual seconds.
SIGNAL: Final = 20e-6  # that a signal takes: what follows from it is later than what asked for it
LOOK_AGAIN: Final = 0.005
SHORT: Final = 0.001  # between two looks at what is stopped meanwhile
VICTIM_BOUND: Final = 3.0  # that a timed fault waits for a victim that is away
MOMENT_BOUND: Final = 12.0  # that one waits, set up, for what it strikes at: the next COMMIT, statement or notification


@dataclass(frozen=True, slots=True)
class Scene:
    """One run, as its faults see it. Times are the recorder's clock."""

    run: Run
    crew: SimCrew
    recorder: Recorder
    contention: Contention | None
    outage: asyncio.Lock = field(default_factory=asyncio.Lock)  # one at a time
    clock_jumps: list[tuple[float, float]] = field(default_factory=list)  # when, and by how much, of the server's

    def clock(self) -> float:
        return self.recorder.began + self.recorder.now()

    def sighting(self, what: str) -> Sighting:
        return Sighting(self.clock(), what)

    def name(self, injection: Injection) -> str:
        """The name of the process that is struck, over all its incarnations."""
        return self.crew.worker(injection.worker).process.name

    async def victim(self, injection: Injection) -> Worker | None:
        """The worker, once it is there; None (and the injection missed) if it does not come in time."""
        worker = self.crew.worker(injection.worker)
        begun = self.clock()
        while not worker.process.alive:
            if not self.patient(injection, begun):
                injection.missed(f"worker {injection.worker} is not there")
                return None
            await asyncio.sleep(LOOK_AGAIN)
        return worker

    def patient(self, injection: Injection, begun: float) -> bool:
        """Whether it still waits for a victim."""
        held = isinstance(injection.event.trigger, AtPoint)
        return not held and not injection.healing.is_set() and self.clock() < begun + VICTIM_BOUND

    async def seen(self, injection: Injection, look: Callable[[], str | None]) -> bool:
        """Let the victim go on until `look` sees the effect; False, and the injection missed, if that takes too long."""
        injection.release()
        begun = self.clock()
        while (what := look()) is None:
            if injection.healing.is_set() or self.clock() >= begun + MOMENT_BOUND:
                injection.missed(f"worker {injection.worker} did nothing that it could strike")
                return False
            await asyncio.sleep(LOOK_AGAIN)
        injection.took_effect(self.sighting(what))
        return True

    async def insist(self, injection: Injection, attempt: Callable[[], Awaitable[str | None]]) -> bool:
        """Attempt it until an attempt says what it has seen; one that the server's absence ends is as good as none."""
        begun = self.clock()
        while True:
            what = None
            with contextlib.suppress(psycopg.Error):
                what = await attempt()
            if what is not None:
                injection.took_effect(self.sighting(what))
                return True
            if injection.healing.is_set() or self.clock() >= begun + MOMENT_BOUND:
                injection.missed(f"worker {injection.worker} did nothing that it could strike")
                return False
            await asyncio.sleep(LOOK_AGAIN)

    async def soon(self, within: float, look: Callable[[], str | None]) -> str | None:
        """What `look` sees; None if it has seen nothing within so many seconds."""
        deadline = self.clock() + within
        while True:
            what = look()
            if what is not None or self.clock() >= deadline:
                return what
            await asyncio.sleep(SHORT)

    def healed(self, injection: Injection, what: str) -> None:
        """It is over, if it ever was in effect."""
        if injection.fired:
            injection.was_healed(self.sighting(what))
