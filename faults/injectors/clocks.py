"""Wrong clocks of workers: libfaketime reads the offset from a file, which is changed under it. Only wall clocks lie.

Confirmed by what the worker itself says that the time is, beside each point that it tells.
"""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Final

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.target import Target
from duress.faults.observe import Observer
from duress.faults.plan import ClockJump, ClockSkew

TICK: Final = 0.02  # seconds between two steps of a clock that drifts
CLOSE: Final = 0.1  # seconds by which a worker's word about its clock may be off


def environment(library: Path) -> dict[str, str]:
    """For a process whose clock can be set, and for what it forks; monotonic clocks stay true."""
    return {"LD_PRELOAD": str(library), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def set_clock(file: Path, offset: float) -> None:
    """Let the clock that reads `file` be off by so many seconds."""
    new = file.with_suffix(".new")
    new.write_text(f"{offset:+.6f}")
    new.replace(file)  # at once: it may be read at any moment


class ClockFaults:
    """The lives of injections that set a worker's clock."""

    def __init__(self, target: Target, observer: Observer, patience: Patience) -> None:
        self._target = target
        self._observer = observer
        self._patience = patience
        self._jumped: defaultdict[int, float] = defaultdict(float)  # worker → how far its clock is off for good
        self._one: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def skew(self, injection: Injection, fault: ClockSkew) -> None:
        """Off for a while, by ever more if it drifts; then right again."""
        file = self._file(injection)
        if file is None:
            return
        worker = injection.worker
        async with self._one[worker]:
            base = self._jumped[worker]
            if not await self._set(injection, file, base + fault.seconds):
                set_clock(file, base)
                return
            drifting = asyncio.create_task(self._drift(file, base + fault.seconds, fault.drift))
            try:
                await injection.hold(fault.duration)
            finally:
                drifting.cancel()
                await asyncio.gather(drifting, return_exceptions=True)
                set_clock(file, base)
            asked = self._observer.clock()
            healed = await self._observer.see(lambda: self._off(worker, asked, base), self._patience.drain)
            if healed is not None:  # else it has not come back since: whoever does has the right time
                injection.was_healed(healed)
            else:
                injection.healed = asked

    async def jump(self, injection: Injection, fault: ClockJump) -> None:
        """Off for good."""
        if fault.of == "server":
            injection.missed("the clock of a real PostgreSQL is not set; use --world sim")
            return
        file = self._file(injection)
        if file is None:
            return
        worker = injection.worker
        async with self._one[worker]:
            offset = self._jumped[worker] + fault.seconds
            if await self._set(injection, file, offset):
                self._jumped[worker] = offset
            else:
                set_clock(file, self._jumped[worker])

    def _file(self, injection: Injection) -> Path | None:
        file = self._target.clock_file(injection.worker)
        if file is None:
            injection.missed("the workers' clocks cannot be set in this run")
        return file

    async def _set(self, injection: Injection, file: Path, offset: float) -> bool:
        """Set it, and hear the worker say so; False, and the injection missed, if it does not."""
        worker = injection.worker
        asked = injection.asked = self._observer.clock()
        injection.release()  # a worker that is held at its point says what time it is when it goes on
        set_clock(file, offset)
        sighting = await self._observer.see(
            lambda: self._off(worker, asked, offset), self._patience.effect, unless=injection.healing
        )
        if sighting is None:
            injection.missed(f"worker {worker} did not say that its clock was off by {offset:+g} s")
            return False
        injection.took_effect(sighting)
        return True

    def _off(self, worker: int, since: float, offset: float) -> str | None:
        """Whether the worker has said, after `since`, that its clock is off by this much."""
        said = self._target.clock(worker)
        if said is None or said[0] <= since or abs(said[1] - offset) > CLOSE:
            return None
        return f"worker {worker} says that its clock is off by {said[1]:+.3f} s"

    @staticmethod
    async def _drift(file: Path, offset: float, rate: float) -> None:
        """A clock that runs too fast or too slow is set a little further again and again."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while rate:
            set_clock(file, offset + (loop.time() - began) * rate)
            await asyncio.sleep(TICK)
