"""What lies between one connection of a simulated process and the server: two legs, on which bytes take virtual time.

A leg keeps the order of what is sent on it. While it is held nothing arrives and nothing is lost: once released it all
arrives, as TCP sends again what was not acknowledged. A leg that is cut delivers nothing more, ever.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .network import Network
    from .reach import Reach

Arrival = Callable[[], None]


class Leg:
    """One direction of one connection."""

    def __init__(self, network: "Network", reach: "Reach", *, held: bool) -> None:
        self._network = network
        self._reach = reach
        self._clock = network.loop.clock
        self._events = network.events
        self._queue: deque[Arrival] = deque()
        self._owed = 0  # how many of them would have arrived by now
        self._sent = 0  # when all of them are on their way
        self._last = 0
        self.held = held
        self.cut = False

    @property
    def pending(self) -> bool:
        """Whether something was sent that has not arrived."""
        return bool(self._queue)

    def send(self, arrival: Arrival, size: int = 0) -> None:
        """Call `arrival` when the bytes that are sent now have arrived, after all that was sent before."""
        if self.cut:
            return
        self._queue.append(arrival)
        if self.held:
            self._withhold()
        else:
            self._set_out(size)

    def _withhold(self) -> None:
        self._owed += 1
        self._reach.traffic.withheld += 1

    def _set_out(self, size: int) -> None:
        self._sent = max(self._sent, self._clock.now) + self._network.pace(self._reach, size)
        self._last = max(self._last, self._sent + self._network.latency(self._reach))
        self._events.call_at(self._last, self._arrive)

    def _arrive(self) -> None:
        """Whatever is first has arrived: so the order is kept, however often the leg was held meanwhile."""
        if self.cut:
            return
        if self.held:
            self._withhold()
        else:
            self._queue.popleft()()

    def hold(self) -> None:
        """From now on nothing arrives, not even what is on its way."""
        self.held = True

    def release(self) -> None:
        """What was held sets out again, in its order."""
        self.held = False
        owed, self._owed = self._owed, 0
        for _ in range(owed):
            self._set_out(0)

    def end(self) -> None:
        """Cut it: what is on its way is lost."""
        self.cut = True
        self._queue.clear()
