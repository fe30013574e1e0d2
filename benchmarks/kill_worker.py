"""A worker process for the kill benchmark, with the engine's default settings. Ends with whoever started it."""

import asyncio
import sys

from benchmarks import kill_workload
from benchmarks.protocol import end_with_parent
from duress.engine import Engine


async def main(dsn: str, name: str) -> None:
    assert kill_workload.long_haul  # registered by its import
    async with Engine(dsn) as engine:
        await engine.work(name=name)


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(main(sys.argv[1], sys.argv[2]))
