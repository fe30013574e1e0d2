"""Shared round trips: what many workflows want to write at once travels together.

Each lane is one connection. While a batch of some kind is under way, messages of that kind pile up and go as the next one; a
message that is alone goes at once, in its sender's own task. A second batch of a kind goes beside the first only when many
wait: few large batches cost less, on both sides, than many small ones. But a batch takes at most half of the messages that
seem to be about, so that one half is in the server while the other is in the workflows' hands.

A batch answers for each message; what it could not do (a locked row, a lost fence) or what made it fail is sent alone, on a
connection where waiting holds up nobody else.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from .assertions import reachable
from .link import Link

M = TypeVar("M")
A = TypeVar("A")
Many = Callable[[Link, Sequence[M]], Awaitable[Sequence[A | None]]]
Waiting = tuple[M, asyncio.Future[tuple[A | None, object]]]

_MOST = 256  # messages in a batch
_FEWEST = 16  # a smaller batch is not worth halving
_MANY = 64  # messages that are worth a second batch at the same time


class Kind(Generic[M, A]):
    """A kind of message: how to send many of them, and how to send one alone.

    `many` answers in order, None for a message that must be sent alone. Without `many`, all are sent alone, on the lanes.
    """

    def __init__(
        self,
        one: Callable[[Link, M], Awaitable[A]],
        many: Many[M, A] | None = None,
    ) -> None:
        self.one = one
        self.many = many
        self.waiting: list[Waiting[M, A]] = []
        self.under_way = 0  # batches
        self.last = 1  # messages in the batch that came back last

    def due(self) -> bool:
        """Whether a batch may leave now."""
        return self.under_way == 0 or self.many is None or len(self.waiting) >= _MANY

    def take(self) -> list[Waiting[M, A]]:
        """The next batch."""
        about = len(self.waiting) + self.last
        size = min(max(_FEWEST, (about + 1) // 2), _MOST) if self.many else 1
        batch, self.waiting = self.waiting[:size], self.waiting[size:]
        return batch


class Lanes:
    """Some connections for writing, and some for messages that have to wait for a lock."""

    def __init__(self, links: Sequence[Link], patient: Sequence[Link]) -> None:
        self._links = (*links, *patient)
        self._patient = list(patient)
        self._patience = asyncio.Semaphore(len(patient))
        self._free = list(links)
        self._kinds: list[Kind[Any, Any]] = []  # those with messages that wait, the longest first
        self._serving: set[asyncio.Task[None]] = set()
        self._starting = False

    async def send(self, kind: Kind[M, A], message: M) -> tuple[A, object]:
        """The answer to one message, and a token that is the same for all that committed together."""
        if kind.many is not None and kind.under_way == 0 and kind.last == 1 and not self._kinds and self._free:
            answer = await self._send_now(kind, kind.many, message)
            token = object()
        else:
            if not kind.waiting:
                self._kinds.append(kind)
            future: asyncio.Future[tuple[A | None, object]] = asyncio.get_running_loop().create_future()
            kind.waiting.append((message, future))
            self._serve_if_due()
            answer, token = await future
        if answer is None:
            reachable("a write of a batch had to be sent alone")
            return await self._send_patiently(kind, message), object()
        return answer, token

    async def _send_patiently(self, kind: Kind[M, A], message: M) -> A:
        async with self._patience:
            link = self._patient.pop()
            try:
                return await kind.one(link, message)
            finally:
                self._patient.append(link)

    async def warm_up(self, kind: Kind[M, A], message: M) -> None:
        """Send a message that changes nothing, so that a connection is open and its statement prepared when one is needed."""
        if self._free and kind.many is not None:
            await self._send_now(kind, kind.many, message)

    async def close(self) -> None:
        """Stop; what is under way is given up."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for link in self._links:
            await link.close()

    async def _send_now(self, kind: Kind[M, A], many: Many[M, A], message: M) -> A | None:
        """Send a message that is alone, without a turn of the event loop before and after."""
        link = self._free.pop()
        kind.under_way += 1
        try:
            with contextlib.suppress(Exception):
                return (await many(link, [message]))[0]
            return None
        finally:
            kind.under_way -= 1
            self._free.append(link)
            self._serve_if_due()

    def _serve_if_due(self) -> None:
        if self._free and not self._starting and any(kind.due() for kind in self._kinds):
            self._starting = True
            # In a context of its own: the message may come from a workflow, whose task this is not. It starts after all who
            # are ready in this turn of the loop have sent theirs.
            task = asyncio.create_task(self._serve(self._free.pop()), name="duress lane", context=contextvars.Context())
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, link: Link) -> None:
        """Carry batches on one lane while there are any."""
        self._starting = False
        try:
            while (kind := next((kind for kind in self._kinds if kind.due()), None)) is not None:
                batch = kind.take()
                self._kinds.remove(kind)
                if kind.waiting:
                    self._kinds.append(kind)
                kind.under_way += 1
                self._serve_if_due()
                try:
                    await self._carry(link, kind, [entry for entry in batch if not entry[1].done()])
                finally:
                    kind.under_way -= 1
                    kind.last = len(batch)
        finally:
            self._free.append(link)

    async def _carry(self, link: Link, kind: Kind[M, A], batch: list[Waiting[M, A]]) -> None:
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
