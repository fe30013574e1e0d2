"""A worker's wall clock is set by libfaketime; its monotonic clock, and everybody else's clocks, stay right."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from injected_workers import held, now
from machine import needs

from duress.faults.injectors.clocks import CLOSE, ClockFaults, environment, set_clock
from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.needs import find_libfaketime, no_libfaketime
from duress.faults.observe import Observer
from duress.faults.plan import ClockJump, ClockSkew, Event

pytestmark = needs("libfaketime", no_libfaketime())
CLOCK = """
import os, sys, time
os.environ["FAKETIME_TIMESTAMP_FILE"] = sys.argv[1]
for line in sys.stdin:
    print(time.time(), time.monotonic(), flush=True)
"""


class Clock:
    """A process that says what time it is: a Target whose worker it is."""

    def __init__(self, file: Path) -> None:
        library = find_libfaketime()
        assert library is not None
        set_clock(file, 0.0)
        self.file = file
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLOCK, file],
            env={**os.environ, **environment(library)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> tuple[float, float]:
        """By how much its wall clock and its monotonic clock are off."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, monotonic = map(float, self.process.stdout.readline().split())
        return wall - time.time(), monotonic - time.monotonic()

    def clock_file(self, worker: int) -> Path | None:
        return self.file if worker == 0 else None

    def clock(self, worker: int) -> tuple[float, float] | None:
        return time.monotonic(), self.says()[0]


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    clock = Clock(tmp_path / "clock")
    yield clock
    clock.process.kill()
    clock.process.communicate()


async def struck(clock: Any, event: Event, worker: int = 0, **patience: float) -> tuple[Injection, ClockFaults]:
    observer = Observer(clock=time.monotonic, dsn="", log=lambda: None)
    faults = ClockFaults(clock, observer, Patience(**patience))
    injection = Injection(event, worker)
    fault: Any = event.fault
    injection.begin((faults.skew if isinstance(fault, ClockSkew) else faults.jump)(injection, fault))
    await injection.released()
    return injection, faults


async def effect(injection: Injection) -> None:
    async with asyncio.timeout(10):
        while not injection.fired:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_a_clock_is_right_until_it_is_set_and_right_again_afterwards(clock: Clock) -> None:
    async def run() -> None:
        assert all(abs(off) < CLOSE for off in clock.says())
        injection, _ = await struck(clock, held(ClockSkew(duration=600, seconds=-86400.0)))
        await effect(injection)
        wall, monotonic = clock.says()
        assert abs(wall + 86400) < CLOSE and abs(monotonic) < CLOSE
        assert "off by -86400.0" in str(injection.confirmed_by)
        await injection.heal()
        assert all(abs(off) < CLOSE for off in clock.says()) and injection.healed is not None

    asyncio.run(run())


def test_a_clock_that_drifts_is_off_by_ever_more(clock: Clock) -> None:
    async def run() -> None:
        injection, _ = await struck(clock, now(ClockSkew(duration=600, seconds=2.0, drift=1.0)))
        await effect(injection)
        first = clock.says()[0]
        await asyncio.sleep(0.5)
        assert clock.says()[0] - first > 0.3
        await injection.heal()
        assert abs(clock.says()[0]) < CLOSE

    asyncio.run(run())


def test_a_clock_that_jumped_stays_there_and_a_skew_comes_on_top(clock: Clock) -> None:
    async def run() -> None:
        injection, faults = await struck(clock, now(ClockJump(seconds=5.0)))
        await injection.done()
        assert injection.fired and injection.healed is None
        assert abs(clock.says()[0] - 5) < CLOSE
        skew = Injection(now(ClockSkew(duration=0.05, seconds=1.0)), 0)
        skew.begin(faults.skew(skew, ClockSkew(duration=0.05, seconds=1.0)))
        await skew.done()
        assert "off by +6.0" in str(skew.confirmed_by)
        assert abs(clock.says()[0] - 5) < CLOSE

    asyncio.run(run())


def test_what_cannot_be_set_or_does_not_say_so_has_not_fired(clock: Clock) -> None:
    async def run() -> None:
        nowhere, _ = await struck(clock, now(ClockJump(seconds=5.0)), worker=1)
        assert not nowhere.fired and "cannot be set" in str(nowhere.reason)
        server, _ = await struck(clock, now(ClockJump(seconds=5.0, of="server")))
        assert not server.fired and "--world sim" in str(server.reason)
        clock.clock = lambda worker: None  # type: ignore[method-assign]
        silent, _ = await struck(clock, now(ClockJump(seconds=5.0)), effect=0.2)
        await silent.done()
        assert not silent.fired and "did not say" in str(silent.reason)

    asyncio.run(run())
