"""The lives of simulated processes in one loop: whose callbacks are withheld, whose never come again."""

from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING

from .clock import SECOND
from .handles import SimTimer
from .life import End, Life, bury
from .ready import Ready, Timers

if TYPE_CHECKING:
    from .loop import SimLoop


class Lives:
    """`running` is the life whose step is on the stack, None for the harness."""

    def __init__(self, loop: "SimLoop", ready: Ready, timers: Timers) -> None:
        self._loop = loop
        self._ready = ready
        self._timers = timers
        self.running: Life | None = None
        self.doomed: list[tuple[Life, End]] = []

    def hold(self, life: Life) -> None:
        """Withhold its callbacks."""
        self._ready.hold(life)

    def release(self, life: Life) -> None:
        """Let them go again, unless something else still withholds them."""
        if not (life.running or life.dead or life.paused or self._loop.clock.now < life.blocked_until):
            self._ready.release(life)

    def block(self, life: Life, duration: int) -> None:
        """It makes a blocking call of so many nanoseconds on its own clock."""
        now = self._loop.clock.now
        life.blocked_until = until = max(now, life.clock.when(life.monotonic(now) + duration))
        self._ready.hold(life)
        release = SimTimer(until / SECOND, until, partial(self.release, life), (), self._loop, Context())
        self._timers.add(release, until)

    def retime(self, life: Life) -> None:
        """Its clock runs at another rate from now on."""
        self._timers.retime(life)

    def exits(self, life: Life, error: SystemExit) -> None:
        """SystemExit was raised somewhere in it: it ends as a program does that asyncio.run runs, its tasks cancelled."""
        life.exit = life.exit or error
        if life.main is not None:
            life.main.cancel()

    def finish(self, life: Life, end: End) -> None:
        """End it; if it is its own step that asks, after that step."""
        if self.running is life:
            self.doomed.append((life, end))
        else:
            self.end(life, end)

    def is_doomed(self, life: Life) -> bool:
        """Whether it ends after the step that it is in."""
        return any(other is life for other, _ in self.doomed)

    def bury_doomed(self) -> None:
        """End those that asked for it in their own step, which is over."""
        doomed, self.doomed = self.doomed, []
        for life, end in doomed:
            self.end(life, end)

    def end(self, life: Life, end: End) -> None:
        """Nothing of it runs from here on."""
        if life.dead:
            return
        life.dead = True
        self._ready.remove(life)
        self._timers.remove(life)
        bury(life, *life.asyncgens)
        resources, life.resources = life.resources, []
        for resource in resources:
            if end.how == "cut off":
                resource.host_cut_off()
            else:
                resource.process_died()
        self._loop.note(life.name, "process", f"incarnation {life.number} {end.how}")
        life.ending(end)
