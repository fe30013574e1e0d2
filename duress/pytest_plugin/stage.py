"""What the duress tests of one process share: a simulated PostgreSQL, open grounds, and the loop that keeps them."""

import asyncio
import contextlib
import os
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from duress.scenarios.work import Ground, Work
    from duress.simulator import Cell

T = TypeVar("T")


class Stage:
    """Made by the first test that needs it, closed when pytest ends."""

    def __init__(self) -> None:
        self._cell: Cell | None = None
        self._grounds: dict[str, Ground] = {}
        self._loop = asyncio.Runner(
            loop_factory=asyncio.new_event_loop
        )  # a factory: then it is nobody else's current loop
        self._open = contextlib.AsyncExitStack()

    @property
    def lane(self) -> int:
        """The number of this process among those of pytest-xdist."""
        return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

    @property
    def cell(self) -> "Cell":
        """The PostgreSQL on which programs run, started when first asked for (a second)."""
        if self._cell is None:
            from duress.simulator import Cell

            free = os.sched_getaffinity(0)
            try:
                self._cell = Cell.start(core=self._core())
            finally:
                os.sched_setaffinity(0, free)
        return self._cell

    def _core(self) -> int:
        cores = sorted(os.sched_getaffinity(0))
        return cores[self.lane % len(cores)]

    @contextlib.contextmanager
    def on_core(self) -> "Iterator[Cell]":
        """The cell, with this process on its core; other tests may use all of them."""
        cell, free = self.cell, os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core()})
        try:
            yield cell
        finally:
            os.sched_setaffinity(0, free)

    def ground(self, work: "Work") -> "Ground":
        """Where runs of this work take place; opened when first asked for, kept until the end."""
        from duress.scenarios.work import open_ground

        key = repr(
            (work.reference, work.world, sorted(work.options.items()), work.settings, work.canary, work.simulating)
        )
        if key not in self._grounds:
            self._grounds[key] = self.wait(self._open.enter_async_context(open_ground(work, self.lane)))
        return self._grounds[key]

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it to its end, on the loop on which the grounds live."""
        return self._loop.run(coroutine)

    def close(self) -> None:
        try:
            if self._grounds:
                self.wait(self._open.aclose())
            self._loop.close()
        finally:
            if self._cell is not None:
                self._cell.close()
