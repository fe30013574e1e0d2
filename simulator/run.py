"""One run: what a program under simulation can reach, and what is known of the run afterwards."""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors
from psycopg.abc import ConnDict
from psycopg.conninfo import make_conninfo

from .clock import SECOND
from .errors import Stuck
from .link import Link
from .network import Network, NetworkSettings
from .outages import Outages
from .sessions import Counts, Sessions

if TYPE_CHECKING:
    from .choices import Choices
    from .control import Control
    from .loop import SimLoop
    from .port import Port
    from .process import SimProcess
    from .record import Entry
    from .server import Cell

Program = Callable[..., Coroutine[Any, Any, Any]]

HOST: Final = "database"
USER: Final = "duress"
DATABASE: Final = "sim"
DSN: Final = f"postgresql://{USER}@{HOST}/{DATABASE}"
# What of a program's connection string means the same in a run. Where to, and as whom, is the run's to say.
_KEPT: Final = ("application_name", "fallback_application_name", "client_encoding", "options")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went. `hash` is over everything that happened: two runs of one token must agree in it."""

    result: Any
    seed: int
    token: str
    hash: str
    virtual_s: float
    steps: int
    counts: Counts
    entries: "tuple[Entry, ...]"
    told: "tuple[Entry, ...]"
    """The entries and the remarks between them."""
    recorded: Mapping[str, tuple[int, ...]] | None
    """Every decision, by stream; like entries only of a run that is traced."""

    def __str__(self) -> str:
        counts = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in asdict(self.counts).items())
        return f"{self.token}: {self.virtual_s:.6f} s, {self.steps} steps, {counts}, hash {self.hash}"


class Run:
    """A run that is under way; given to the program if that takes an argument, and by `current_run()`.

    `dsn` leads to the run's database. A program's own connection strings lead there too, as the superuser `duress`; only
    those with the host `database` choose user and database themselves.
    """

    dsn = DSN

    def __init__(
        self,
        loop: "SimLoop",
        cell: "Cell",
        port: "Port",
        database: str,
        *,
        keep: bool,
        settings: NetworkSettings,
        holds: int,
        control: "Control",
    ) -> None:
        self.loop = loop
        self.network = Network(loop, loop.chain("network"), settings)
        self.sessions = Sessions(loop, cell, keep, holds, control)
        self.server = Outages(self.sessions, cell)
        self.network.server_stopped = lambda: self.sessions.away == "stopped"
        self._port = port
        self._database = database
        self._links = 0
        self._results: dict[str, Any] = {}

    @property
    def choices(self) -> "Choices":
        """Draw a program's own decisions here, from the stream "workload"."""
        return self.loop.choices

    @property
    def now(self) -> float:
        """Virtual seconds since the run began, by no process's clock."""
        return self.loop.clock.now / SECOND

    def remark(self, process: str, kind: str, text: str, at: float | None = None) -> None:
        """Say something in the trace of this run, `at` or now; it is no part of what is hashed."""
        moment = self.loop.clock.now if at is None else round(at * SECOND)
        self.loop.record.remark(moment, process, kind, text)

    @property
    def processes(self) -> "tuple[SimProcess, ...]":
        return tuple(self.loop.processes)

    def process(
        self,
        name: str,
        main: Program,
        *args: Any,
        offset: float = 0.0,
        drift: float = 0.0,
        may_fail: bool = False,
        stopping: Callable[[], object] | None = None,
    ) -> "SimProcess":
        """Start `main(*args)` in a simulated process of its own. If it raises the run fails, unless it `may_fail`."""
        program = partial(self._program, name, partial(main, *args), may_fail)
        return self.loop.spawn_process(name, program, offset=offset, drift=drift, stopping=stopping)

    async def _program(self, name: str, main: Program, may_fail: bool) -> Any:
        try:
            result = self._results[name] = await main()
        except Exception as error:
            if not may_fail:
                self.loop.fail(error)
            raise
        return result

    def limit(self, seconds: float) -> None:
        """End the run with Stuck when it has lasted so long."""
        self.loop.chain("time limit").call_at(round(seconds * SECOND), self._too_long, seconds)

    def _too_long(self, seconds: float) -> None:
        raise Stuck(f"the run has lasted for {seconds:,.0f} s of virtual time:", self.loop.describe())

    def result(self, name: str) -> Any:
        """What the main function of a process that has returned gave."""
        return self._results.get(name)

    def close(self) -> None:
        """The run is over: end what is left of it."""
        for process in self.processes:
            if process.alive:
                process.kill()
        self.network.close()
        self.sessions.close()
        self.server.close()
        self.loop.close()

    # For connections

    def conninfo(self, params: ConnDict) -> str:
        """Where libpq is to connect to for a program that asks for `params`."""
        # Empty ones too, or libpq would take them from the environment.
        kept = {name: params.get(name, "") for name in _KEPT}
        if not kept["application_name"]:
            kept["application_name"] = kept["fallback_application_name"]
        own = params.get("host") == HOST
        user = params.get("user", USER) if own else USER
        database = params.get("dbname", DATABASE) if own else DATABASE
        if database == DATABASE:
            database = self._database
        return make_conninfo("", host=self._port.host, port=self._port.number, user=user, dbname=database, **kept)

    def accept(self, descriptor: int) -> Link:
        """The link of a connection that libpq has just begun to make; `descriptor` is its end."""
        end = self._port.accept()
        if end is None:
            raise errors.OperationalError("libpq did not connect to the simulation's port")
        process = self.loop.process
        self._links += 1
        link = Link(self.network, self.sessions, process.name if process else "", end, self._links)
        link.watch(descriptor, process)
        return link


def calling(main: Program, run: Run) -> Program:
    """`main` with the run as its argument, if it takes one."""
    try:
        inspect.signature(main).bind()
    except TypeError:
        return partial(main, run)
    return main
