"""Virtual time: whole nanoseconds since the run began, and what each simulated process reads on its own clock."""

from collections.abc import Callable
from typing import Final

SECOND: Final = 1_000_000_000
EPOCH_NS: Final = 1_900_000_000 * SECOND  # every run begins on 2030-03-17 at 17:46:40 UTC

Watcher = Callable[[int], None]


def from_unix_us(us: int) -> int:
    """A time of the server's, in ns on the run's clock."""
    return us * 1_000 - EPOCH_NS


class Clock:
    """The one clock of a run. It moves only when the simulation moves it, and never back."""

    def __init__(self) -> None:
        self.now = 0
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher(now)` whenever time has moved."""
        self._watchers.append(watcher)

    def move_to(self, now: int) -> None:
        """Move to `now`, in nanoseconds since the run began."""
        if now < self.now:
            raise ValueError(f"virtual time cannot go back from {self.now} ns to {now} ns")
        if now != self.now:
            self.now = now
            for watcher in self._watchers:
                watcher(now)

    @property
    def unix_us(self) -> int:
        """Microseconds since 1970, as a server's clock shows them."""
        return (EPOCH_NS + self.now) // 1_000


class LocalClock:
    """What one process reads: the run's clock, running fast or slow, with a wall clock that may be wrong and may jump.

    `offset` (seconds) is how far both readings are off at the start. `drift` is the rate's error: 0.01 runs 1 % fast, so
    its timers come early. A `jump` moves the wall clock only, as setting the time does: timers and the monotonic clock of
    a real machine do not notice.
    """

    BILLION: Final = 1_000_000_000

    def __init__(self, now: int = 0, offset: float = 0.0, drift: float = 0.0) -> None:
        self._at = now
        self._local = now + round(offset * SECOND)
        self._wall_offset = 0
        self._drift = self._parts(drift)

    @property
    def drift(self) -> float:
        return self._drift / self.BILLION

    def _parts(self, drift: float) -> int:
        if not -1 < drift < 1_000:
            raise ValueError(f"a clock cannot drift by {drift}: it is a fraction, 0.01 runs 1 % fast, and above -1")
        return round(drift * self.BILLION)

    def set_drift(self, now: int, drift: float) -> None:
        """From `now` on run at another rate; what it reads now stays."""
        parts = self._parts(drift)
        self._local, self._at, self._drift = self.monotonic(now), now, parts

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or, if negative, back."""
        self._wall_offset += round(seconds * SECOND)

    def monotonic(self, now: int) -> int:
        """Nanoseconds on the clock that timers go by, when the run's clock shows `now`."""
        passed = now - self._at
        return self._local + passed + passed * self._drift // self.BILLION

    def wall(self, now: int) -> int:
        """Nanoseconds since 1970 by this process's wall clock."""
        return EPOCH_NS + self.monotonic(now) + self._wall_offset

    def when(self, local: int) -> int:
        """The first moment on the run's clock at which this one shows `local` or more."""
        if not self._drift:
            return self._at + local - self._local
        moment = self._at + (local - self._local) * self.BILLION // (self.BILLION + self._drift) - 1
        while self.monotonic(moment) < local:
            moment += 1
        return moment
