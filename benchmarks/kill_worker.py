"""A worker process for the kill benchmark, with the engine's default settings. Ends with whoever started it."""

import asyncio
import ctypes
import os
import signal
import sys

from benchmarks import kill_workload
from duress.engine import Engine

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # the parent was gone already
        sys.exit(1)


async def main(dsn: str, name: str) -> None:
    assert kill_workload.long_haul  # registered by its import
    async with Engine(dsn) as engine:
        await engine.work(name=name)


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(main(sys.argv[1], sys.argv[2]))
