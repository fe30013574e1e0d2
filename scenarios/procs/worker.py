"""A worker process: what it does from its birth, in `nursery`, to its end. SIGTERM is a graceful stop."""

import asyncio
import logging
import signal
import socket

from duress.engine import Engine
from duress.engine.errors import DatabaseUnavailable
from duress.scenarios import receiver
from duress.scenarios.procs.agent import Agent
from duress.scenarios.procs.receiver import SocketReceiver
from duress.scenarios.procs.wire import Orders

TRY_AGAIN = 0.05  # seconds
log = logging.getLogger("duress.worker")


def main(descriptor: int) -> None:
    """Take the orders from the harness's socket and work until stopped."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    agent = Agent(socket.socket(fileno=descriptor))
    orders = agent.orders()
    asyncio.run(serve(orders, agent))


async def serve(orders: Orders, agent: Agent) -> None:
    """Run an engine's worker as ordered until SIGTERM. Born during an outage, it waits for the server."""
    agent.leave_with_harness(asyncio.get_running_loop())
    receiver.install(SocketReceiver(orders.receiver))
    while True:
        try:
            return await work(orders, agent)
        except DatabaseUnavailable as error:
            log.warning("not started yet: %s", error)
            await asyncio.sleep(TRY_AGAIN)


async def work(orders: Orders, agent: Agent) -> None:
    """One try; raises DatabaseUnavailable if the server cannot be reached at the beginning."""
    async with Engine(orders.dsn, schema=orders.schema, observer=agent) as engine:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.stop)
        await engine.work(
            queues=list(orders.queues),
            concurrency=orders.concurrency,
            name=orders.name,
            lease=orders.lease,
            heartbeat=orders.heartbeat,
            poll=orders.poll,
        )
