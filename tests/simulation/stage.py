"""Runs a program in a simulation, as short as a test wants it."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from duress.simulator.choices import Choices
from duress.simulator.loop import SimLoop
from duress.simulator.scheduler import Scheduler
from duress.simulator.world import simulated

Program = Callable[[SimLoop], Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class Played:
    result: Any
    loop: SimLoop

    @property
    def hash(self) -> str:
        return self.loop.record.hexdigest()


def play(
    program: Program,
    *,
    seed: int = 0,
    scheduler: Scheduler | None = None,
    choices: Choices | None = None,
    **options: Any,
) -> Played:
    """Run `program(loop)` in the world of a new loop."""
    loop = SimLoop(scheduler=scheduler, choices=choices or Choices.of_seed(seed), **options)
    try:
        with simulated(loop):
            return Played(loop.run_until_complete(program(loop)), loop)
    finally:
        loop.close()


async def forever() -> None:
    await asyncio.Event().wait()
