"""A worker process: what it does from its birth, in `nursery`, to its end. SIGTERM is a graceful stop."""

import asyncio
import logging
import socket

from duress.engine.assertions import listening
from duress.scenarios import receiver
from duress.scenarios.asserted import Once
from duress.scenarios.procs.agent import Agent
from duress.scenarios.procs.receiver import SocketReceiver
from duress.scenarios.procs.wire import Orders
from duress.scenarios.serving import serve


def main(descriptor: int) -> None:
    """Take the orders from the harness's socket and work until stopped."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    agent = Agent(socket.socket(fileno=descriptor))
    orders = agent.orders()
    asyncio.run(_serve(orders, agent))


async def _serve(orders: Orders, agent: Agent) -> None:
    agent.leave_with_harness(asyncio.get_running_loop())
    receiver.install(SocketReceiver(orders.receiver))
    with listening(Once(agent.said)):
        await serve(orders.dsn, orders.name, orders.settings, agent)
