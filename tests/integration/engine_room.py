"""What the engine's tests share: an engine on a fresh schema, a worker beside the test, and an observer to wait on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from duress.engine import Engine, Registry
from duress.engine.definitions import WorkflowDefinition
from duress.engine.observer import Facts

PATIENCE_S = 20.0
"""How long a test waits for something that must happen; far more than it takes."""


class Hold:
    """Keeps the engine at a point, from the first time it comes there until `release`."""

    def __init__(self, name: str, facts: Facts) -> None:
        self.name = name
        self.facts = facts
        self.reached = asyncio.Event()
        self._released = asyncio.Event()

    async def wait(self) -> None:
        """Return when the engine stands at the point."""
        async with asyncio.timeout(PATIENCE_S):
            await self.reached.wait()

    def release(self) -> None:
        self._released.set()

    async def keep(self) -> None:
        self.reached.set()
        await self._released.wait()


class Watch:
    """An observer that records the engine's points; a test can wait for one, or hold the engine there."""

    def __init__(self) -> None:
        self.points: list[tuple[str, Facts]] = []
        self._changed = asyncio.Event()
        self._holds: list[Hold] = []

    def point(self, name: str, facts: Facts) -> Awaitable[None] | None:
        self.points.append((name, facts))
        self._changed.set()
        self._changed = asyncio.Event()
        for hold in self._holds:
            if hold.name == name and not hold.reached.is_set() and hold.facts.items() <= facts.items():
                return hold.keep()
        return None

    def all(self, name: str, **facts: Any) -> list[Facts]:
        """The facts of the points of this name that were passed with these facts."""
        return [found for at, found in self.points if at == name and facts.items() <= found.items()]

    async def seen(self, name: str, count: int = 1, **facts: Any) -> Facts:
        """Wait until such a point was passed `count` times; the facts of that time."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(found := self.all(name, **facts)) < count:
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {name} {facts} ({count}) among {self.points[-40:]}") from None
        return found[count - 1]

    def hold(self, name: str, **facts: Any) -> Hold:
        """Hold the engine where it next passes such a point."""
        self._holds.append(Hold(name, facts))
        return self._holds[-1]


@asynccontextmanager
async def opened(dsn: str, **options: Any) -> AsyncIterator[Engine]:
    """An engine whose schema is installed."""
    async with Engine(dsn, **options) as engine:
        await engine.migrate()
        yield engine


@asynccontextmanager
async def working(engine: Engine, **options: Any) -> AsyncIterator["asyncio.Task[None]"]:
    """A worker of this engine beside the test; stopped gracefully at the end; an error of its own is raised here."""
    task = asyncio.create_task(engine.work(**options))
    try:
        yield task
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        raise
    engine.stop()
    async with asyncio.timeout(PATIENCE_S):
        await task


@asynccontextmanager
async def running(dsn: str, *, work: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Engine]:
    """An engine with its schema and one worker."""
    async with opened(dsn, **options) as engine, working(engine, **(work or {})):
        yield engine


class Sql:
    """The test's own session: what an operator with psql would do to the tables."""

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self.conn = conn

    async def all(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        cursor = await self.conn.execute(query.encode(), arguments)
        return await cursor.fetchall() if cursor.description else []

    async def one(self, query: str, *arguments: Any) -> Any:
        """The first column of the first row; None without one."""
        rows = await self.all(query, *arguments)
        return rows[0][0] if rows else None

    async def until(self, query: str, *arguments: Any, is_: Any = True) -> None:
        """Wait until the query's answer is this; the database has no better way to tell."""
        answer = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                while (answer := await self.one(query, *arguments)) != is_:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        except TimeoutError:
            busy = await self.all(
                "select pid, application_name, state, wait_event_type, wait_event, query, pg_blocking_pids(pid)"
                " from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            )
            raise AssertionError(f"{query} {arguments} stays {answer!r}, not {is_!r}; sessions: {busy}") from None


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[Sql]:
    """A session of the test's own, autocommit."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, application_name="test") as conn:
        yield Sql(conn)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something in this process is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def registered(function: Callable[..., Any], name: str) -> tuple[Registry, WorkflowDefinition[..., Any]]:
    """One version of a workflow's code, in a registry of its own."""
    registry, definition = Registry(), WorkflowDefinition(function, name)
    registry.add(definition)
    return registry, definition
