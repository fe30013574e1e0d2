"""What the clocks of a run show to whoever asks: the harness, a simulated process, or a function in a thread of either."""

import math

from .clock import EPOCH_NS, SECOND, Clock
from .handles import CURRENT
from .life import Life
from .lives import Lives
from .ready import NEVER


class Readings:
    """Nanoseconds on the clocks of the process whose code is running.

    `aside` is for how long the function of a "thread" has slept while it runs inline, else None: for it alone it is later.
    """

    def __init__(self, clock: Clock, lives: Lives) -> None:
        self._clock = clock
        self._lives = lives
        self.aside: int | None = None

    def monotonic(self) -> int:
        """Since the run began."""
        return self._monotonic_of(CURRENT.get())

    def _monotonic_of(self, life: Life | None) -> int:
        now = self._clock.now + (self.aside or 0)
        return now if life is None else life.monotonic(now)

    def wall(self) -> int:
        """Since 1970."""
        life = CURRENT.get()
        now = self._clock.now + (self.aside or 0)
        return EPOCH_NS + now if life is None else life.wall(now)

    def timer_at(self, when: float, life: Life | None) -> int:
        """`when`, in seconds on the monotonic clock of `life`, as its nearest nanosecond; NEVER if that is too far away.

        Never the present one for a moment that is still to come: asyncio too lets a timer go up to a clock tick early, but
        there time passes anyway, and here a program that sleeps again for what is left would never get on.
        """
        if not when < NEVER / SECOND:
            if math.isnan(when):
                raise ValueError("a timer cannot be set for NaN seconds")
            return NEVER
        at, now = round(when * SECOND), self._monotonic_of(life)
        return now + 1 if at <= now and when > now / SECOND else at

    def block(self, duration: int) -> None:
        """A blocking call, such as time.sleep.

        A process is held up alone: what it does before its next await happens at once, on its own clock later. In the
        harness time passes for everybody; in the function of a thread it delays the result.
        """
        life = CURRENT.get()
        if self.aside is not None:
            self.aside += duration
        elif life is None:
            self._clock.move_to(self._clock.now + duration)
        else:
            self._lives.block(life, duration)
