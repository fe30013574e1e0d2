"""A real worker process: says on its standard output what it passes, ends with whoever started it, stops on SIGTERM."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import engine_workflows  # noqa: E402

from duress.engine import Engine  # noqa: E402
from duress.engine.observer import Facts  # noqa: E402


class Telling:
    """Writes each point as a line before the engine goes on; stays for ever at the one that is named."""

    def __init__(self, hold: str | None) -> None:
        self._hold = hold

    def point(self, name: str, facts: Facts) -> Awaitable[None] | None:
        os.write(1, f"{json.dumps({'point': name, **facts})}\n".encode())
        return self._stay() if name == self._hold else None

    async def _stay(self) -> None:
        await asyncio.Event().wait()


async def main(dsn: str, options: dict[str, object]) -> None:
    assert engine_workflows.__name__
    hold = options.pop("hold", None)
    async with Engine(dsn, observer=Telling(str(hold) if hold else None)) as engine:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.stop)
        await engine.work(**options)  # type: ignore[arg-type]


def end_with_our_parent() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    threading.Thread(target=end_with_our_parent, daemon=True).start()
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
