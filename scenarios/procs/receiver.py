"""The receiver of the procs world: it lives with the harness, outside of every worker and of the database.

One connection per request, one JSON line each way. The address is an abstract Unix socket: no file, no port, gone with
the harness. A key is applied once; every attempt is recorded before it is answered.
"""

import asyncio
import random
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from duress.scenarios.history import Facts, received
from duress.scenarios.receiver import Answer, Request

REQUEST_LIMIT: Final = 1 << 22


class SocketReceiver:
    """The worker's side: how a step reaches the receiver."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def send(self, request: Request) -> Answer:
        reader, writer = await asyncio.open_unix_connection(self._address, limit=REQUEST_LIMIT)
        try:
            writer.write(msgspec.json.encode(request) + b"\n")
            line = await reader.readline()
        finally:
            writer.close()
        if not line.endswith(b"\n"):
            raise ConnectionResetError(f"the receiver hung up on {request.key}")
        return msgspec.json.decode(line, type=Answer)


class ReceiverServer:
    """The harness's side. `record` gets (name, facts) for each attempt, at the moment when it is applied.

    The answer follows after a delay drawn between `soonest` and `latest` seconds, so that workers can die in between.
    """

    def __init__(
        self,
        decide: Callable[[Request], Answer],
        record: Callable[[str, Facts], object],
        entropy: random.Random,
        *,
        soonest: float = 0.002,
        latest: float = 0.030,
        address: str | None = None,
    ) -> None:
        self._decide = decide
        self._record = record
        self._entropy = entropy
        self._delay = soonest, latest
        self._answers: dict[str, Answer] = {}
        self._server: asyncio.Server | None = None
        self.address = address or f"\0duress-receiver-{secrets.token_hex(8)}"

    async def __aenter__(self) -> "ReceiverServer":
        self._server = await asyncio.start_unix_server(self._serve, self.address, limit=REQUEST_LIMIT)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line.endswith(b"\n"):  # else the worker died within its request, which therefore never arrived
                answer = self._apply(msgspec.json.decode(line, type=Request))
                await asyncio.sleep(self._entropy.uniform(*self._delay))
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # the worker died; its attempt is recorded
        finally:
            writer.close()

    def _apply(self, request: Request) -> Answer:
        applied = request.key not in self._answers
        if applied:
            self._answers[request.key] = self._decide(request)
        self._record(*received(request, applied=applied))
        return self._answers[request.key]
