"""What a scenario is: a workload, the faults it allows, and the invariants that must hold.

A scenario says nothing about where it runs. Its workload is written with asyncio, the engine's public API and the small
`World` below, and its steps reach the outside world through `duress.scenarios.receiver`: no clock, no socket, no random
source of its own. So the same scenario serves real processes, containers and the simulator.
"""

import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from duress.faults.contention import Contention
from duress.scenarios.rare import Rare
from duress.scenarios.receiver import Answer, Request

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from duress.engine import Engine


class World(Protocol):
    """What a workload may use."""

    @property
    def engine(self) -> "Engine":
        """A client of the engine under test; what it starts and reads enters the history."""
        ...

    @property
    def random(self) -> random.Random:
        """The workload's own stream of randomness, drawn from the run's seed."""
        ...

    @property
    def options(self) -> Mapping[str, int]:
        """The scenario's sizes, as chosen for this run."""
        ...

    def going(self, started: int, wanted: int) -> bool:
        """Whether to start more work: fewer than `wanted` were `started`, or planned faults are still to come.

        A workload goes on until the plan is used up, so that every fault finds work in flight; the world bounds it.
        """
        ...

    def wants(self, number: int) -> bool:
        """Whether to do piece `number` of the work (from 0; what a piece is, the workload says), once `going` allows it.

        A run that is made smaller leaves pieces out. So what a piece does must follow from its number, whatever else is done.
        """
        ...


Setup = Callable[["AsyncConnection[Any]"], Awaitable[None]]
Workload = Callable[[World], Coroutine[Any, Any, None]]


def approve(request: Request) -> Answer:
    """The receiver's answer when a scenario does not care."""
    return Answer("ok")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario. `setup` makes its tables in a fresh database, `workload` drives it once and returns when done."""

    name: str
    doc: str  # one line, for `duress list`
    module: str  # importing it registers the workflows; each worker does
    setup: Setup
    workload: Workload
    faults: Mapping[
        str, float
    ]  # kinds of faults that it must withstand → how often each is drawn, relative to the others
    invariants: tuple[str, ...]  # ids, as in `duress.scenarios.invariants`
    places: tuple[
        tuple[str, str], ...
    ] = ()  # (engine point, step) that every worker reaches often: faults are aimed there too
    options: Mapping[str, int] = field(default_factory=dict)  # sizes and their defaults
    simulated: Mapping[str, int] = field(default_factory=dict)  # other defaults, for runs in the simulated world
    tables: Mapping[str, str] = field(default_factory=dict)  # name → query: the scenario's part of the final state
    contention: Contention | None = None  # how a stranger gets in the way of its transactions; needed for such faults
    sometimes: tuple[Rare, ...] = ()  # what is to happen in some run of a campaign; see `duress.scenarios.rare`
    answer: Callable[[Request], Answer] = approve  # the receiver's decision; must depend on the request alone
