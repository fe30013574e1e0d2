"""Waiting for outcomes: notifications wake sooner, polling makes sure."""

import asyncio
import contextlib
import contextvars
import random
from collections.abc import Callable

import psycopg

from .assertions import sometimes
from .link import AnyConnection, Connector, backoff, close
from .runtime import log
from .store import Store

Outcome = tuple[str, str | None]  # final status, JSON text


class Vanished(Exception):
    """The workflow is not in the database any more under its number: a failover lost it."""


_POLL = 1.0  # seconds
_LOCAL = 0.05  # seconds before the database is asked, when a worker of this process may bring the outcome


class Outcomes:
    """Futures of workflows that somebody in this process waits for."""

    def __init__(
        self, store: Store, connector: Connector, schema: str, entropy: random.Random, works_here: Callable[[], bool]
    ) -> None:
        self._store = store
        self._connector = connector
        self._schema = schema
        self._entropy = entropy
        self._works_here = works_here
        # By number, then id: a failover can lose a workflow and give its number to another.
        self._waiting: dict[int, dict[str, list[asyncio.Future[Outcome]]]] = {}
        self._ask = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def wait(self, number: int, id_: str) -> Outcome:
        """The outcome, once it is durable. Raises Vanished."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._poll(), name="duress outcomes", context=contextvars.Context()),
                asyncio.create_task(self._listen(), name="duress listen", context=contextvars.Context()),
            ]
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(number, {}).setdefault(id_, []).append(future)
        self._ask.set()
        try:
            return await future
        finally:
            waiting = self._waiting.get(number, {}).get(id_, [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    self._forget(number, id_)

    def tell(self, number: int, id_: str, status: str | None, outcome: str | None) -> None:
        """An outcome is known, or (no status) that the workflow has vanished."""
        for future in self._forget(number, id_):
            if future.done():
                continue
            if status is None:
                future.set_exception(Vanished(id_))
            else:
                future.set_result((status, outcome))

    def _forget(self, number: int, id_: str) -> list[asyncio.Future[Outcome]]:
        """Who waited for it."""
        ids = self._waiting.get(number, {})
        futures = ids.pop(id_, [])
        if not ids:
            self._waiting.pop(number, None)
        return futures

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _poll(self) -> None:
        missed = False  # the time of a poll came, and no notification before it
        while True:
            await self._ask.wait()
            if self._works_here():
                await asyncio.sleep(_LOCAL)
            self._ask.clear()
            if self._waiting:
                try:
                    asked = [(number, id_) for number, ids in sorted(self._waiting.items()) for id_ in ids]
                    found = await self._store.outcomes(asked)
                    sometimes(missed and found, "a poll found an outcome that no notification told")
                    for number, id_, status, outcome in found:
                        self.tell(number, id_, status, outcome)
                except psycopg.Error as error:  # this time; the waiting goes on
                    log.warning("cannot read outcomes: %s", error)
            if self._waiting:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL):
                        await self._ask.wait()
                missed = not self._ask.is_set()
                self._ask.set()

    async def _listen(self) -> None:
        conn: AnyConnection | None = None
        failures = 0
        while True:
            try:
                conn = await self._connector.connect()
                if conn.prepare_threshold is None:  # a pooler passes no notifications on
                    return
                await conn.execute(f'listen "{self._schema}.done"'.encode())
                self._ask.set()
                failures = 0
                async for notification in conn.notifies():
                    if int(notification.payload) in self._waiting:
                        self._ask.set()
            except (psycopg.Error, TimeoutError, OSError):
                failures += 1
                await asyncio.sleep(backoff(failures, self._entropy))
            finally:
                if conn is not None:
                    await close(conn)
