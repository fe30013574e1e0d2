"""What a worker of a Dask cluster does for a campaign: keeps cells, one for each of its threads, and runs seeds in them.

The functions here are called by Dask, in its threads. Cells belong to a thread of ours, with an event loop, that lives as
long as the process: they end with it, however that ends.
"""

import asyncio
import contextlib
import fcntl
import os
import platform
import tempfile
import threading
import traceback
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from duress.faults.plan import Plan
from duress.faults.postgres import ServerError, find_binaries
from duress.scenarios import registry
from duress.scenarios.build import digest
from duress.scenarios.observed import Diverged, RunFailed
from duress.scenarios.settings import Settings, Simulating
from duress.scenarios.sim.ground import SimGround, open_sim_ground
from duress.scenarios.sim.wire import Told
from duress.scenarios.work import Work

T = TypeVar("T")
CORE_FILE: Final = "duress-core-{}.lock"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a run beside its seed: all who run seeds of one campaign must agree in it."""

    build: str  # digest of duress and the scenario
    python: str  # minor version
    postgres: str


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell has to know before its first run."""

    reference: str
    canary: str | None
    options: dict[str, int]
    settings: Settings
    simulating: Simulating
    about: About


def about(reference: str) -> bytes:
    """This process's About, for the scenario. Raises what makes it unfit, in words."""
    scenario = registry.find(reference)
    minor = ".".join(platform.python_version_tuple()[:2])
    found = About(build=digest(scenario), python=minor, postgres=find_binaries().version)
    return msgspec.msgpack.encode(found)


def observe(assignment: bytes, seed: int, plan: bytes) -> bytes:
    """Run one seed in a cell that is free, or a new one; a Told. Called in one of Dask's threads."""
    return _cells().wait(_cells().observe(assignment, seed, msgspec.msgpack.decode(plan, type=Plan)))


def _cells() -> "_Cells":
    """This process's; Dask's threads may come for the first time all at once."""
    global _made
    with _making:
        if _made is None:
            _made = _Cells()
        return _made


_making = threading.Lock()
_made: "_Cells | None" = None


class _Cells:
    """The cells of this process. Those of an earlier campaign are closed when one of another is asked for."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="duress-cluster-")
        self._free: list[SimGround] = []
        self._open = contextlib.AsyncExitStack()
        self._assignment = b""
        self._number = 0
        threading.Thread(target=self._loop.run_forever, name="duress cells", daemon=True).start()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def observe(self, assignment: bytes, seed: int, plan: Plan) -> bytes:
        try:
            ground = await self._ground(assignment)
            told = Told(observed=await ground.observe(seed, plan))
        except Diverged as error:
            told = Told(diverged=error.divergence)
        except RunFailed as error:
            return msgspec.msgpack.encode(Told(error=str(error), trace=error.trace))
        except ServerError as error:
            return msgspec.msgpack.encode(Told(error=f"no cell can be had on {platform.node()}: {error}"))
        except Exception:  # noqa: BLE001  # the campaign decides what a failure of the harness means
            # Its cell may have ended: it is not used again, and closed with the others.
            return msgspec.msgpack.encode(Told(error=traceback.format_exc()))
        if assignment == self._assignment:
            self._free.append(ground)
        return msgspec.msgpack.encode(told)

    async def _ground(self, assignment: bytes) -> SimGround:
        if assignment != self._assignment:
            stale, self._open, self._free, self._assignment = self._open, contextlib.AsyncExitStack(), [], assignment
            await stale.aclose()
        if self._free:
            return self._free.pop()
        self._number += 1
        self._check(assignment)
        place = self._open.enter_context(_core())
        return await self._open.enter_async_context(open_sim_ground(self._work(assignment), place))

    def _check(self, assignment: bytes) -> None:
        """Workers may join while a campaign goes on, and nobody has asked those what they run."""
        asked = msgspec.msgpack.decode(assignment, type=Assignment)
        if about(asked.reference) != msgspec.msgpack.encode(asked.about):
            raise ServerError(f"this worker does not run the same code as the campaign, build {asked.about.build}")

    def _work(self, assignment: bytes) -> Work:
        asked = msgspec.msgpack.decode(assignment, type=Assignment)
        return Work(
            scenario=registry.find(asked.reference),
            reference=asked.reference,
            world="sim",
            options=asked.options,
            settings=asked.settings,
            canary=asked.canary,
            dsn=None,
            logs=Path(self._folder.name) / str(self._number),
            simulating=asked.simulating,
        )


@contextlib.contextmanager
def _core() -> Iterator[int]:
    """The place, among the cores that we may use, of one that no cell of another process has; ours until we leave."""
    cores = sorted(os.sched_getaffinity(0))
    for place, core in enumerate(cores):
        name = Path(tempfile.gettempdir()) / CORE_FILE.format(core)
        try:
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError:  # another user's
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        try:
            yield place
        finally:
            os.close(file)
        return
    yield os.getpid() % len(cores)
