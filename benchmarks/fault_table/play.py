"""Plays rows of the table in a world, and says what became of each."""

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from benchmarks.fault_table import apart
from benchmarks.fault_table.observe import Seen
from benchmarks.fault_table.rows import ROWS, Row
from duress.faults.plan import AtTime, ClockJump, Event, Plan, kind
from duress.faults.worlds import NetworkName, World, can
from duress.scenarios.invariants import judge
from duress.scenarios.observed import Observed
from duress.scenarios.result import FaultRecord
from duress.scenarios.settings import USUAL, Settings, Simulating
from duress.scenarios.work import Ground, Work, open_ground

Place = Literal["sim", "procs", "toxiproxy", "docker"]
PLACES: Final[dict[Place, tuple[World, NetworkName]]] = {
    "sim": ("sim", "proxy"),
    "procs": ("procs", "proxy"),
    "toxiproxy": ("procs", "toxiproxy"),
    "docker": ("docker", "proxy"),
}
REST: Final = {"transfers": 3, "lanes": 1}  # for a worker that is mostly idle
POLL: Final = 2.0  # seconds between its looks for work of its own accord
# When the fault comes: seconds from the beginning. All workers are to have been at work by then.
AT: Final[dict[World, float]] = {"sim": 0.05, "procs": 0.3, "docker": 2.0}
SEED: Final = 2


class NotHeld(AssertionError):
    """A row is not as the catalogue says; the message says how."""


@dataclass(frozen=True, slots=True)
class Line:
    """A cell of the table."""

    row: str
    place: Place
    struck: str
    saw: str
    healed: str


def rows(place: Place) -> list[Row]:
    """Those that this place can do. What Toxiproxy does not stand in for is not done there again."""
    world, network = PLACES[place]
    return [
        row
        for row in ROWS
        if can(kind(row.fault), world, network) and not (place == "toxiproxy" and can(kind(row.fault), world, "none"))
    ]


class Stage:
    """A place that is open. A run without faults is made once and kept: in it every observer must see nothing."""

    def __init__(self, place: Place, busy: Ground, at_rest: Ground) -> None:
        self._place = place
        self._grounds = {False: busy, True: at_rest}
        self._quiet: dict[bool, Seen] = {}
        self._seed = SEED

    async def play(self, row: Row) -> Line:
        """Raises NotHeld."""
        ground = self._grounds[row.needs_rest]
        if row.needs_rest not in self._quiet:
            self._quiet[row.needs_rest] = Seen.of(await self._run(row, ground, Plan()))
        quiet = self._quiet[row.needs_rest]
        if found := row.struck(quiet):
            raise NotHeld(f"{row.name}: without it, the observer says: {found}")
        event = Event(trigger=AtTime(seconds=AT[PLACES[self._place][0]]), fault=row.fault)
        observed = await self._run(row, ground, Plan(events=(event,)))
        return self._line(row, observed)

    async def _run(self, row: Row, ground: Ground, plan: Plan) -> Observed:
        self._seed += 1
        if self._seed % 10 == 1:  # those are run twice, which another test is about
            self._seed += 1
        observed = await ground.observe(self._seed, plan)
        findings = judge(observed.evidence, apart.scenario.invariants)
        if findings or observed.doubts:
            why = [*observed.doubts, *(f"{finding.invariant}: {finding.message}" for finding in findings)]
            raise NotHeld(f"{row.name}: the run has not passed: {'; '.join(why)[:400]}")
        return observed

    def _line(self, row: Row, observed: Observed) -> Line:
        seen = Seen.of(observed)
        struck = row.struck(seen)
        if struck is None:
            told = observed.faults[0].confirmed_by
            raise NotHeld(f"{row.name}: nobody but its injector saw it ({told}); workers saw {seen.words}")
        told = _told(row, seen)
        if told is None:
            raise NotHeld(f"{row.name}: workers were to see {row.sees}, and saw {seen.words}")
        return Line(row.name, self._place, struck, told, _healed(row, observed.faults[0]))


def _told(row: Row, seen: Seen) -> str | None:
    """What the client saw, if it is what it should be."""
    if row.sees is None:
        return None if seen.errors else "nothing"
    if not isinstance(row.sees, str):
        return row.sees(seen)
    fitting = [word for word in seen.words if re.search(row.sees, word)]
    return ", ".join(fitting) or None


def _healed(row: Row, record: FaultRecord) -> str:
    if record.effect is None or record.confirmed_by is None:
        raise NotHeld(f"{row.name}: it did not fire")
    if record.healed is None:
        if isinstance(row.fault, ClockJump):
            return "never, as it should"
        raise NotHeld(f"{row.name}: it has not healed")
    return f"after {record.healed - record.effect:.2f} s"


@contextlib.asynccontextmanager
async def open_stage(place: Place, folder: Path) -> AsyncIterator[Stage]:
    """Open the place. Raises ServerError, NetworkUnavailable."""
    world, network = PLACES[place]
    scenario = apart.scenario
    usual = USUAL[world] if world != "procs" else Settings(workers=2)
    options = {**scenario.options, **(scenario.simulated if world == "sim" else {})}
    work = Work(
        scenario=scenario,
        reference=f"{apart.__name__}:scenario",
        world=world,
        network=network,
        options=options,
        settings=replace(usual, until="healed"),
        canary=None,
        dsn=None,
        logs=folder,
        simulating=Simulating(twice_every=0),
    )
    resting = replace(work, options=options | REST, settings=replace(work.settings, workers=1, poll=POLL))
    async with contextlib.AsyncExitStack() as stack:
        busy = await stack.enter_async_context(open_ground(work, 0))
        needs = any(row.needs_rest for row in rows(place))
        at_rest = await stack.enter_async_context(open_ground(resting, 0)) if needs else busy
        yield Stage(place, busy, at_rest)
