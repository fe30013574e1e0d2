"""The proxy's process: `python -m duress.faults.proxy.service SOCKET PARENT`, started by `control.py`.

It does what it is told over the inherited socket, and ends with whoever holds the other end, however that ends.
"""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import uvloop

from duress.faults.deathbed import die_with
from duress.faults.proxy import orders
from duress.faults.proxy.log import MessageLog
from duress.faults.proxy.orders import AnyOrder, Fired, Reply, Told
from duress.faults.proxy.port import Port

_decode = msgspec.json.Decoder(AnyOrder).decode
_encode = msgspec.json.Encoder().encode


class Service:
    """All ports, and who gives the orders."""

    def __init__(self, writer: asyncio.StreamWriter, *, values: bool) -> None:
        self._writer = writer
        self._log = MessageLog(values=values)
        self._ports: dict[int, Port] = {}
        self._rules = 0

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Do what is ordered until nobody is left to give orders."""
        while (line := await reader.readline()).endswith(b"\n"):
            order = _decode(line)
            try:
                self._tell(Reply(number=order.number, value=self._do(order)))
            except (OSError, LookupError) as error:
                self._tell(Reply(number=order.number, error=str(error)))

    def _tell(self, told: Told) -> None:
        self._writer.write(_encode(told) + b"\n")

    def _fired(self, fired: Fired) -> None:
        self._tell(fired)

    def _do(self, order: AnyOrder) -> int:
        if isinstance(order, orders.SaveLog):
            return self._log.save(Path(order.path), None if order.worker < 0 else order.worker, order.since)
        if isinstance(order, orders.Listen):
            if order.worker not in self._ports:
                self._ports[order.worker] = Port(order.worker, self._log, self._fired)
            return self._ports[order.worker].listen(order.upstream, order.port)
        if order.worker not in self._ports:
            raise LookupError(f"worker {order.worker} has no port; there is: {sorted(self._ports)}")
        return self._at(self._ports[order.worker], order)

    def _at(self, port: Port, order: AnyOrder) -> int:
        """What concerns one port."""
        match order:
            case orders.Repoint(upstream=upstream):
                port.repoint(upstream)
            case orders.Arm(rule=rule):
                self._rules += 1
                port.arm(self._rules, rule)
                return self._rules
            case orders.Withdraw(rule=number):
                return int(port.withdraw(number))
            case orders.Withhold(sides=sides):
                port.withhold(sides)
            case orders.Release(alive=alive):
                port.release(alive=alive)
            case orders.Slow(sides=sides, shape=shape):
                port.slow(sides, shape)
            case orders.Refuse(on=on):
                port.refuse(on=on)
            case orders.DropConnections(ending=ending, connection=connection):
                return port.drop(ending, connection)
            case orders.Close():
                self._ports.pop(order.worker).close()
        return 0


async def _run(control: socket.socket, *, values: bool) -> None:
    reader, writer = await asyncio.open_connection(sock=control)
    await Service(writer, values=values).serve(reader)


def main(arguments: list[str]) -> None:
    """Serve until the harness hangs up."""
    descriptor, parent, values = (int(argument) for argument in arguments)
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the harness, which ends us
    uvloop.run(_run(socket.socket(fileno=descriptor), values=bool(values)))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
