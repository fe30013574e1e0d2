"""Places at which one exchange between a process and the server stands still until it is told to go on.

An exchange is a request of a process and the reply to it; those of a process are counted from 1, over all its lives and
connections. So a fault can be made to strike at every one of them, and at every point inside.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from .session import Session

Where = Literal["before", "inside", "after"]


@dataclass(frozen=True, slots=True)
class Stop:
    """Before the server has begun with the request, at the `point`-th point inside (from 1), or before its reply leaves.

    `reached` is called when the session stands there; it stays until `Session.go_on`.
    """

    process: str
    exchange: int
    where: Where
    reached: "Callable[[Session], object]"
    point: int = 0


class Exchange(NamedTuple):
    """One exchange that has ended: the text of the request, and how many points the session passed in it."""

    at: float  # seconds on the run's clock, when it began
    process: str
    number: int
    text: str
    points: int


class Stops:
    """The stops of one run, and the list of its exchanges."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.exchanges: list[Exchange] = []
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._stops: dict[tuple[str, int], Stop] = {}
        self._begun: dict[int, tuple[float, int, str, int]] = {}  # session → when, number, text, points so far

    def add(self, stop: Stop) -> None:
        """At most one stop for an exchange."""
        key = stop.process, stop.exchange
        if key in self._stops:
            raise ValueError(f"exchange {stop.exchange} of {stop.process} stops already: {self._stops[key].where}")
        self._stops[key] = stop

    def begin(self, session: "Session", points: int) -> Stop | None:
        """An exchange begins; where it is to stop."""
        self._counts[session.process] += 1
        number = self._counts[session.process]
        self._begun[session.number] = (self._clock(), number, session.asked, points)
        return self._stops.get((session.process, number)) if self._stops else None

    def end(self, session: "Session", points: int) -> None:
        """It has ended, and its reply may leave."""
        if (begun := self._begun.pop(session.number, None)) is not None:
            at, number, text, before = begun
            self.exchanges.append(Exchange(at, session.process, number, text, points - before))
