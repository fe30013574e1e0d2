"""One end of a connection, as asyncio's transports tell of it."""

import asyncio
from typing import TYPE_CHECKING, cast

from duress.faults.proxy.messages import Direction

if TYPE_CHECKING:
    from duress.faults.proxy.connection import Connection


class End(asyncio.Protocol):
    """The connection to one side."""

    def __init__(self, connection: "Connection", side: Direction) -> None:
        self._connection = connection
        self._from = side
        self.transport: asyncio.Transport | None = None
        self.hung_up = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._connection.met(self, self.transport)

    def data_received(self, data: bytes) -> None:
        if self._from == "to-server":
            self._connection.from_worker(data)
        else:
            self._connection.from_server(data)

    def eof_received(self) -> bool:
        self.hung_up = True
        self._connection.hung_up(self, "fin")
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if not self.hung_up:
            self.hung_up = True
            self._connection.hung_up(self, "rst")
        self._connection.lost(self)

    def pause_writing(self) -> None:
        self._connection.filled(self, on=True)

    def resume_writing(self) -> None:
        self._connection.filled(self, on=False)
