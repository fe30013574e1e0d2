"""The receiver of the simulated world: outside of every worker, reached over a simulated link."""

import asyncio
import random
from collections.abc import Callable
from typing import Final, Self

from duress.scenarios.history import Facts, received
from duress.scenarios.receiver import Answer, Request

SOONEST: Final = 0.001  # seconds, each way
LATEST: Final = 0.015


class SimReceiver:
    """Applies each key once; every attempt is recorded at the moment when it is applied. `record` gets name and facts.

    A request goes on its own way: a worker that dies after sending cannot call it back.
    """

    def __init__(
        self,
        decide: Callable[[Request], Answer],
        record: Callable[[str, Facts], object],
        entropy: random.Random,
    ) -> None:
        self._decide = decide
        self._record = record
        self._entropy = entropy
        self._answers: dict[str, Answer] = {}
        self._arrivals: asyncio.Queue[tuple[Request, asyncio.Future[Answer]]] = asyncio.Queue()
        self._under_way: set[asyncio.Task[None]] = set()
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Serve, in the harness's process."""
        self._serving = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._serving is not None
        self._serving.cancel()

    async def _serve(self) -> None:
        while True:
            request, answer = await self._arrivals.get()
            task = asyncio.create_task(self._attend(request, answer))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def send(self, request: Request) -> Answer:
        """The worker's side."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._arrivals.put_nowait((request, answer))
        return await answer

    async def _attend(self, request: Request, answer: "asyncio.Future[Answer]") -> None:
        await asyncio.sleep(self._entropy.uniform(SOONEST, LATEST))
        applied = request.key not in self._answers
        if applied:
            self._answers[request.key] = self._decide(request)
        self._record(*received(request, applied=applied))
        await asyncio.sleep(self._entropy.uniform(SOONEST, LATEST))
        if not answer.done():
            answer.set_result(self._answers[request.key])
