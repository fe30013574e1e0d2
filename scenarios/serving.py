"""What a worker does, in whichever world it lives: run an engine's worker until SIGTERM."""

import asyncio
import logging
import signal

from duress.engine import Engine, Observer
from duress.engine.errors import DatabaseUnavailable
from duress.scenarios.settings import Settings

TRY_AGAIN = 0.05  # seconds
log = logging.getLogger("duress.worker")


async def serve(dsn: str, name: str, settings: Settings, observer: Observer) -> None:
    """Work until stopped. Born during an outage, it waits for the server."""
    while True:
        try:
            return await _work(dsn, name, settings, observer)
        except DatabaseUnavailable as error:
            log.warning("not started yet: %s", error)
            await asyncio.sleep(TRY_AGAIN)


async def _work(dsn: str, name: str, settings: Settings, observer: Observer) -> None:
    """One try; raises DatabaseUnavailable if the server cannot be reached at the beginning."""
    async with Engine(dsn, schema=settings.schema, observer=observer) as engine:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.stop)
        await engine.work(
            queues=[settings.queue],
            concurrency=settings.concurrency,
            name=name,
            lease=settings.lease,
            heartbeat=settings.heartbeat,
            poll=settings.poll,
        )
