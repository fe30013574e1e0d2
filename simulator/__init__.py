"""Runs any asyncio program that uses psycopg's async connections, under virtual time, on a real PostgreSQL.

    with Simulation(setup="create table account (id int primary key, cents int not null)", data="...") as simulation:
        outcome = simulation.run(main, seed=1)          # one run; the same seed is the same run
        failure = simulation.find(main, range(500))     # the first seed under which it fails, with a token
        simulation.run(main, token=failure.token)       # that run again

`main` gets the `Run`, with which to start simulated processes and to break the network between them and the server.
"""

from duress.faults.plan import CommitPoint, Direction

from .catches import Catch
from .choices import Choices
from .connection import SimConnection, current_run
from .errors import Escape, SimulationError, Stuck, TokenError
from .network import Drop, Network, NetworkSettings
from .process import SimProcess
from .record import Entry, Record, first_difference
from .run import DSN, Outcome, Program, Run
from .scheduler import Candidate, Fifo, Pct, Pos, RandomWalk, Replay, Scheduler
from .server import Blocked, Cell, HarnessError, Held, Io, Point, SimUnavailable
from .session import Session
from .simulation import (
    SCHEDULERS,
    Diverged,
    Failure,
    Simulation,
    ensure_fixed_hash_seed,
    has_fixed_hash_seed,
    run,
)
from .stops import Exchange, Stop

__all__ = [
    "DSN",
    "SCHEDULERS",
    "Blocked",
    "Candidate",
    "Catch",
    "Cell",
    "Choices",
    "CommitPoint",
    "Direction",
    "Diverged",
    "Drop",
    "Entry",
    "Escape",
    "Exchange",
    "Failure",
    "Fifo",
    "HarnessError",
    "Held",
    "Io",
    "Network",
    "NetworkSettings",
    "Outcome",
    "Pct",
    "Point",
    "Pos",
    "Program",
    "RandomWalk",
    "Record",
    "Replay",
    "Run",
    "Scheduler",
    "Session",
    "SimConnection",
    "SimProcess",
    "SimUnavailable",
    "Simulation",
    "SimulationError",
    "Stop",
    "Stuck",
    "TokenError",
    "current_run",
    "ensure_fixed_hash_seed",
    "first_difference",
    "has_fixed_hash_seed",
    "run",
]
