"""One fault on its way: asked for, in effect, healed, each with its moment; or not fired, with the reason."""

import asyncio
import contextlib
from collections.abc import Coroutine

from duress.faults.observe import Sighting
from duress.faults.plan import Event, describe


class Injection:
    """What became of one planned event. Times are the injector's clock; None is what has not happened (yet).

    `effect` and `confirmed_by` come from an observation, never from the injector's belief. An injection heals by
    itself when its time is over, and at the latest when its injector is left.
    """

    def __init__(self, event: Event, worker: int) -> None:
        self.event = event
        self.worker = worker
        self.asked: float | None = None  # taken right before the system call or statement that injects
        self.effect: float | None = None
        self.healed: float | None = None
        self.confirmed_by: str | None = None
        self.reason: str | None = None  # why it did not fire
        self.healing = asyncio.Event()  # somebody wants it healed now
        self._released = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        outcome = self.confirmed_by if self.fired else f"not fired: {self.reason}" if self.reason else "on its way"
        return f"<{describe(self.event)} ({outcome})>"

    @property
    def fired(self) -> bool:
        return self.effect is not None

    async def heal(self) -> None:
        """Undo it now instead of when its time is over; returns when it is seen undone. Harmless when repeated."""
        self.healing.set()
        await self.done()

    async def done(self) -> None:
        """Wait until it is known whether it fired, and it has healed if it ever does. Raises what failed in healing."""
        if self._life is not None:
            await asyncio.shield(self._life)

    # From here on for injectors.

    def begin(self, life: Coroutine[None, None, None]) -> None:
        """Run its life beside whoever asked for it."""
        self._life = asyncio.create_task(self._live(life), name=f"fault: {describe(self.event)}")

    async def released(self) -> None:
        """Wait until the victim may go on: the fault is in effect, or will not be before the victim goes on."""
        await self._released.wait()
        if self._life is not None and self._life.done():
            self._life.result()

    def release(self) -> None:
        self._released.set()

    def took_effect(self, sighting: Sighting) -> None:
        self.effect, self.confirmed_by = sighting.at, sighting.what
        self.release()

    def was_healed(self, sighting: Sighting) -> None:
        self.healed = sighting.at
        self.confirmed_by = f"{self.confirmed_by}; then {sighting.what}"

    def missed(self, reason: str) -> None:
        """It did not fire."""
        self.effect = self.healed = self.confirmed_by = None
        self.reason = reason
        self.release()

    async def hold(self, seconds: float) -> None:
        """Let it last, until its time is over or somebody heals it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.healing.wait(), seconds)

    async def _live(self, life: Coroutine[None, None, None]) -> None:
        try:
            await life
        finally:
            self._released.set()
