"""Shared round trips: what many workflows want to write at once travels together.

Each lane is one connection. While a batch of some kind is under way, messages of that kind pile up and then go as the next
one; alone, a message waits for nothing but the current turn of the event loop. A second batch of the same kind goes beside
the first only when many wait: few large batches cost less, on both sides, than many small ones. A batch answers for each message; what it could not do
(a locked row, a lost fence) or what made it fail is sent alone, on a connection where waiting holds up nobody else.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from .link import Link

M = TypeVar("M")
A = TypeVar("A")

_MOST = 256  # messages in a batch
_MANY = 64  # messages that are worth a second batch at the same time


class Kind(Generic[M, A]):
    """A kind of message: how to send many of them, and how to send one alone.

    `many` answers in order, None for a message that must be sent alone. Without `many`, all are sent alone, on the lanes.
    """

    def __init__(
        self,
        one: Callable[[Link, M], Awaitable[A]],
        many: Callable[[Link, Sequence[M]], Awaitable[Sequence[A | None]]] | None = None,
    ) -> None:
        self.one = one
        self.many = many
        self.waiting: list[tuple[M, asyncio.Future[tuple[A | None, object]]]] = []
        self.under_way = 0

    def due(self) -> bool:
        """Whether a batch may leave now."""
        return self.under_way == 0 or self.many is None or len(self.waiting) >= _MANY


class Lanes:
    """Some connections for writing, and one for messages that may have to wait for a lock."""

    def __init__(self, links: Sequence[Link], patient: Link) -> None:
        self._links = links
        self._patient = patient
        self._kinds: list[Kind[Any, Any]] = []
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def send(self, kind: Kind[M, A], message: M) -> tuple[A, object]:
        """The answer to one message, and a token that is the same for all that committed together."""
        if not self._tasks:
            # In a context of their own: the first message may come from a workflow, whose tasks these are not.
            self._tasks = [
                asyncio.create_task(self._run(link), name="duress lane", context=contextvars.Context())
                for link in self._links
            ]
        if not kind.waiting:
            self._kinds.append(kind)
        future: asyncio.Future[tuple[A | None, object]] = asyncio.get_running_loop().create_future()
        kind.waiting.append((message, future))
        if self._idle and kind.due():
            self._wake()
        answer, token = await future
        if answer is None:
            return await kind.one(self._patient, message), object()
        return answer, token

    async def close(self) -> None:
        """Stop; what is under way is given up."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        for link in (*self._links, self._patient):
            await link.drop()

    def _wake(self) -> None:
        while self._idle:
            lane = self._idle.pop()
            if not lane.done():
                lane.set_result(None)
                return

    async def _run(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        while True:
            kind = next((kind for kind in self._kinds if kind.due()), None)
            if kind is None:
                idle = loop.create_future()
                self._idle.append(idle)
                await idle
                continue
            size = _MOST if kind.many else 1
            batch, kind.waiting = kind.waiting[:size], kind.waiting[size:]
            self._kinds.remove(kind)
            if kind.waiting:
                self._kinds.append(kind)
            kind.under_way += 1
            if self._idle and any(other.due() for other in self._kinds):
                self._wake()
            try:
                await self._carry(link, kind, [entry for entry in batch if not entry[1].done()])
            finally:
                kind.under_way -= 1

    async def _carry(
        self, link: Link, kind: Kind[M, A], batch: list[tuple[M, asyncio.Future[tuple[A | None, object]]]]
    ) -> None:
        """Send one batch and settle its futures, whatever happens."""
        answers: Sequence[A | None] = [None] * len(batch)
        token = object()
        try:
            if kind.many is not None and batch:
                # An error may be the fault of one message; each then learns alone what is wrong with it.
                with contextlib.suppress(Exception):
                    answers = await kind.many(link, [message for message, _ in batch])
            elif batch:
                answers = [await kind.one(link, batch[0][0])]
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        except BaseException:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result((answer, token))
