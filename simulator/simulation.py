"""Runs of programs: a server that is kept open, put back to the start before each of them, and what to do with failures."""

import gc
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Final, Self

from . import connection
from .choices import Choices
from .clock import SECOND, Clock
from .control import Control, Setup
from .errors import SimulationError, Stuck
from .loop import SimLoop
from .network import NetworkSettings
from .port import Port
from .record import Entry, Record, first_difference
from .reserve import reserve_of
from .run import Outcome, Program, Run, calling
from .scheduler import Fifo, Pct, Pos, RandomWalk, Replay, Scheduler
from .server import Cell, HarnessError
from .world import simulated

MAIN: Final = "main"
COLLECT_EVERY: Final = 16  # runs; in between memory grows
# Whether anything was created or dropped since.
_SCHEMA: Final = b"""
select (select count(*) from pg_class), (select max(oid) from pg_class),
       (select count(*) from pg_proc), (select max(oid) from pg_proc),
       (select count(*) from pg_trigger), (select count(*) from pg_constraint),
       (select count(*) from pg_type), (select count(*) from pg_namespace)
"""
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
_NUMBERS: Final = count(1)
SCHEDULERS: Final[Mapping[str, Callable[[], Scheduler]]] = {
    "fifo": Fifo,
    "random": RandomWalk,
    "pct": Pct,
    "pos": Pos,
}
_HASH_SEED: Final = "PYTHONHASHSEED"


class Diverged(SimulationError):
    """Two runs of the same choices differed: something in the program, or in us, is decided outside of the simulation."""

    def __init__(self, first: "Attempt", second: "Attempt") -> None:
        difference = first_difference(first.entries, second.entries)
        what = str(difference or f"no entry differs, but what came out: {first.ending} and {second.ending}")
        super().__init__(f"{first.token} cannot be repeated; {what}")
        self.difference = difference
        self.attempts = (first, second)


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed under which a program failed, after how many seeds, and how."""

    seed: int
    tried: int
    token: str
    error: BaseException


class Simulation:
    """A PostgreSQL of its own in which programs run one after the other, each from the same start.

    `setup` (SQL, or a function of a psycopg connection) makes the database once. Without `data` every run gets a copy of
    it. With `data` (perhaps empty) runs share one: its tables are emptied and `data` is run, and connections to the server
    are kept, which is several times as fast; after a run that has changed the schema the next one gets a copy all the same.

    `keep=False` ends sessions for real all the same: for programs that look at pg_stat_activity, or use uuidv7(), which does
    not go back in time within one server process.
    `time_limit`: a run that goes on for longer (virtual seconds) is stuck, though some timer may still tick.
    `holds`: one exchange in so many is held at a point inside, 0 for none. `scheduler` is one of SCHEDULERS or makes one.
    """

    def __init__(
        self,
        setup: Setup = "",
        *,
        data: Setup | None = None,
        cell: Cell | None = None,
        network: NetworkSettings | None = None,
        holds: int = 8,
        scheduler: str | Callable[[], Scheduler] = "random",
        keep: bool = True,
        time_limit: float = 30 * 86_400.0,
    ) -> None:
        if holds < 0 or holds == 1:
            raise ValueError(f"holds={holds}: one exchange in 2 or more, or 0 for none")
        self._scheduler = SCHEDULERS[scheduler] if isinstance(scheduler, str) else scheduler
        self._data = data
        self._keep = keep and data is not None
        self._runs = 0
        self._time_limit = time_limit
        self._network = network or NetworkSettings()
        self._holds = holds
        number = next(_NUMBERS)  # several may share a cell, one after the other or in turns
        self._database, self._template = f"sim_{number}", f"sim_{number}_template"
        self._own_cell = cell is None
        self.cell = cell or Cell.start()
        self._port = Port()
        self._schema: list[Any] = []
        self._fresh = True  # nothing has run in the database yet
        self.told: tuple[Entry, ...] = ()  # of the latest run, however it ended, if it was traced
        self._control = Control(self.cell.dsn("postgres"))
        self._filler = Control(self.dsn)
        try:
            self.cell.create_database(self._template)
            making = Control(self.cell.dsn(self._template))
            making.apply(setup)
            making.close()
            self._renew()
        except BaseException:
            self.close()
            raise
        gc.collect()
        gc.freeze()

    @property
    def dsn(self) -> str:
        """Where to read the database between runs, in real time. End such connections before the next run."""
        return self.cell.dsn(self._database)

    # Between runs

    def read(self, queries: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
        """The rows of several queries, by their names: what the last run has left, in one snapshot."""
        return self._filler.read(queries)

    def _renew(self) -> None:
        """The database becomes a new copy of the template."""
        self._retire()
        self.cell.drop_database(self._database)
        self.cell.create_database(self._database, self._template)
        if self._data is not None:
            self._filler.apply(self._data)
            self._schema = self._filler.rows(_SCHEMA)
        self._fresh = True

    def _retire(self) -> None:
        """End all sessions that are kept."""
        reserve_of(self.cell).end()
        self._filler.close()

    def _prepare(self, fresh: bool) -> None:
        """Back to the start, at the time at which every run begins."""
        self.cell.begin()
        if not self._fresh:
            if self._data is None or fresh or self._filler.rows(_SCHEMA) != self._schema:
                self._renew()
            else:
                self.cell.reset(self._database)
                self._filler.apply(self._data)
        self._fresh = False

    # Runs

    def run(
        self,
        main: Program,
        *,
        seed: int = 0,
        token: str | None = None,
        processes: Mapping[str, Program] | None = None,
        trace: bool = False,
        fresh: bool = False,
    ) -> Outcome:
        """Run `main` to its end under the choices of a seed or a token, in a simulated process called "main".

        `processes` are started before it and killed when it returns. `trace` keeps the entries of the record; `fresh` takes
        a new copy of the database. Raises what the program raises, with the token in a note; Stuck when it waits for ever.
        """
        attempt = self._attempt(main, _choices(seed, token), processes or {}, trace=trace, fresh=fresh)
        if attempt.error is not None:
            raise attempt.error
        assert attempt.outcome is not None
        return attempt.outcome

    def attempt(self, main: Program, *, seed: int = 0, token: str | None = None, trace: bool = False) -> "Attempt":
        """The same, whatever comes of it: the program's failure is part of the answer. Raises what is no doing of its own."""
        attempt = self._attempt(main, _choices(seed, token), {}, trace=trace, fresh=False)
        if attempt.broken:
            assert attempt.error is not None
            raise attempt.error
        return attempt

    def check_twice(
        self,
        main: Program,
        *,
        seed: int = 0,
        token: str | None = None,
        processes: Mapping[str, Program] | None = None,
        trace: bool = False,
    ) -> Outcome:
        """Run it twice, the second time in a fresh copy of the database and with other addresses in memory.

        Raises Diverged, which names the first difference; what the program raises, if it does so both times; and
        SimulationError where the order of sets changes from process to process. `trace` adds remarks to the entries.
        """
        require_fixed_hash_seed()
        first = self._attempt(main, _choices(seed, token), processes or {}, trace=True, fresh=False, remarks=trace)
        ballast = [bytearray(size) for size in range(1, 8192, 7)]  # what is made from here on lies elsewhere
        second = self._attempt(main, _choices(seed, token), processes or {}, trace=True, fresh=True, remarks=False)
        del ballast[:]
        if first.signature != second.signature:
            raise Diverged(first, second)
        if first.error is not None:
            raise first.error
        assert first.outcome is not None
        return first.outcome

    def find(
        self, main: Program, seeds: Iterable[int], *, processes: Mapping[str, Program] | None = None
    ) -> Failure | None:
        """Run seed after seed until the program fails or hangs; None if it never does."""
        for tried, seed in enumerate(seeds, 1):
            attempt = self._attempt(main, _choices(seed, None), processes or {}, trace=False, fresh=False)
            if attempt.error is None:
                continue
            if attempt.broken:
                raise attempt.error
            return Failure(seed, tried, attempt.token, attempt.error)
        return None

    def _attempt(
        self,
        main: Program,
        choices: Choices,
        processes: Mapping[str, Program],
        *,
        trace: bool,
        fresh: bool,
        remarks: bool = True,
    ) -> "Attempt":
        scheduler = Replay() if choices.replaying else self._scheduler()
        record = Record(keep=trace, remarks=remarks)
        self._prepare(fresh)
        loop = SimLoop(Clock(), scheduler, choices, record)
        run = Run(
            loop,
            self.cell,
            self._port,
            self._database,
            keep=self._keep,
            settings=self._network,
            holds=self._holds,
            control=self._control,
        )
        error, digest = None, ""
        gc.disable()
        try:
            with simulated(loop), connection.redirected(run):
                run.limit(self._time_limit)
                follow(run, main, processes)
        except Exception as caught:  # noqa: BLE001 - the program's, whatever it is
            error = caught
        finally:
            digest = record.hexdigest()  # what follows is no part of the run
            end = loop.clock.now
            entries = record.entries if trace else ()
            if remarks:  # of two runs that are compared, the first is read
                self.told = record.told if trace else ()
            run.close()
            if run.sessions.all_lost:
                self._filler.close()
            self._collect()
        if error is not None:
            error.add_note(f"in the simulated run {choices.token()} at {end / SECOND:.6f} s, hash {digest}")
            return Attempt(choices.token(), entries, digest, None, error, choices)
        outcome = Outcome(
            result=run.result(MAIN),
            seed=choices.seed,
            token=choices.token(),
            hash=digest,
            virtual_s=end / SECOND,
            steps=loop.steps,
            counts=run.sessions.counts,
            entries=entries,
            told=self.told,
            recorded=choices.recorded if trace else None,
        )
        return Attempt(choices.token(), entries, digest, outcome, None, choices)

    def _collect(self) -> None:
        gc.enable()
        self._runs += 1
        if self._runs % COLLECT_EVERY == 0:
            gc.collect()

    def close(self) -> None:
        """End the server, if it is ours."""
        self._port.close()
        try:
            self._retire()
            if not self._own_cell:
                self.cell.drop_database(self._database)
                self.cell.drop_database(self._template)
        finally:
            self._control.close()
            if self._own_cell:
                self.cell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that has ended, one way or the other."""

    token: str
    entries: tuple[Entry, ...]
    digest: str
    outcome: Outcome | None
    error: Exception | None
    choices: Choices

    @property
    def signature(self) -> tuple[str, str]:
        """Equal in two runs that went the same way."""
        return self.digest, self.ending

    @property
    def broken(self) -> bool:
        """It was not the program that failed: the simulation did, or the program left it."""
        return isinstance(self.error, (SimulationError, HarnessError)) and not isinstance(self.error, Stuck)

    @property
    def ending(self) -> str:
        """What came out of it, without addresses."""
        if self.error is not None:
            return _ADDRESS.sub("", repr(self.error))
        return _ADDRESS.sub("", f"returned {self.outcome and self.outcome.result!r}")


def follow(run: Run, main: Program, processes: Mapping[str, Program]) -> None:
    """Start everything and let it run until `main` has ended. Raises what it raises, or what a process failed with."""
    for name, program in processes.items():
        run.process(name, calling(program, run))
    loop, process = run.loop, run.process(MAIN, calling(main, run))
    try:
        loop.run_until_complete(process.ended())
    except RuntimeError:
        if loop.failure is None:
            raise
    if loop.failure is not None:
        raise loop.failure
    end = process.end
    if end is not None and end.error is not None:
        raise end.error
    if end is not None and end.how != "returned":
        raise SimulationError(f"the process {MAIN!r} was {end.how}; kill others, and start those by Run.process")
    if loop.escapes:
        raise SimulationError(f"the program swallowed errors that say how it left the simulation: {loop.escapes}")


def run(
    main: Program,
    *,
    seed: int = 0,
    token: str | None = None,
    scheduler: str | Callable[[], Scheduler] = "random",
    processes: Mapping[str, Program] | None = None,
    setup: Setup = "",
    cell: Cell | None = None,
    network: NetworkSettings | None = None,
    holds: int = 8,
    trace: bool = False,
) -> Outcome:
    """One run of `main`, in a server that is started for it (a second) unless a `cell` is given. See Simulation."""
    with Simulation(setup, cell=cell, network=network, holds=holds, scheduler=scheduler) as simulation:
        return simulation.run(main, seed=seed, token=token, processes=processes, trace=trace)


def _choices(seed: int, token: str | None) -> Choices:
    return Choices.from_token(token) if token is not None else Choices.of_seed(seed)


def has_fixed_hash_seed() -> bool:
    """Whether the order of sets of strings is the same in every process that is started like this one."""
    return os.environ.get(_HASH_SEED, "random").isdecimal()


def require_fixed_hash_seed() -> None:
    """Raise SimulationError unless `has_fixed_hash_seed`."""
    if not has_fixed_hash_seed():
        raise SimulationError(
            f"the order of sets differs from one start of Python to the next, so a run cannot be repeated: start it with "
            f"{_HASH_SEED}=0 in the environment, or call duress.simulator.ensure_fixed_hash_seed() first thing"
        )


def ensure_fixed_hash_seed() -> None:
    """Start this program anew with a fixed hash seed if it has none. Does not return then; call it before anything else."""
    if not has_fixed_hash_seed():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, _HASH_SEED: "0"})
