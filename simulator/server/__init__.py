"""A real PostgreSQL under control: its clock, its waits and the moments inside its statements are the simulator's."""

from duress.simulator.server.backend import Backend
from duress.simulator.server.cell import EPOCH_US, Cell
from duress.simulator.server.errors import HarnessError, SimUnavailable
from duress.simulator.server.events import Blocked, Event, Gone, Held, Io, Point, Ready, WaitClass
from duress.simulator.server.session import Outcome, Reply, Session

__all__ = [
    "EPOCH_US",
    "Backend",
    "Blocked",
    "Cell",
    "Event",
    "Gone",
    "HarnessError",
    "Held",
    "Io",
    "Outcome",
    "Point",
    "Ready",
    "Reply",
    "Session",
    "SimUnavailable",
    "WaitClass",
]
