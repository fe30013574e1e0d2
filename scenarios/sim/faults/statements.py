"""Faults of one worker's sessions and statements. PostgreSQL does all of it by itself, its timers on virtual time: a session
is stopped where it can be got in the way of, or gets settings that its worker would not have chosen.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import psycopg

from duress.faults.contention import Contention
from duress.faults.injectors.injection import Injection
from duress.faults.plan import (
    CancelStatement,
    Deadlock,
    IdleInTransactionTimeout,
    LockTimeout,
    ReadOnly,
    SerializationFailure,
    StatementTimeout,
)
from duress.scenarios.sim.faults.scene import Scene
from duress.scenarios.sim.faults.watch import TrafficWatch
from duress.simulator import Blocked, Catch, Point, Session

# Virtual seconds.
MARGIN: Final = 0.002  # by which a statement outlasts its timeout
BACK: Final = 0.05  # that an answer takes at most
WHILE: Final = 0.5  # that one attempt waits for what must follow
DETECTION: Final = 0.02  # deadlock_timeout of the transaction that is to find it

_REPEATABLE: Final = re.compile(r"\s*begin isolation level (repeatable read|serializable)\b", re.IGNORECASE)
_UPDATE: Final = re.compile(r"\s*update\b", re.IGNORECASE)


async def cancel(scene: Scene, injection: Injection, fault: CancelStatement) -> None:
    """A statement of the worker is stopped at its start or in its middle, cancelled, and let go."""
    watch = _ask(scene, injection)
    nth = itertools.cycle((1, 2))  # a prepared one cannot be cancelled at its start

    async def attempt() -> str | None:
        with _catch(scene, injection, Point.STATEMENT_START, nth=next(nth)) as catch:
            if (session := await catch.wait(WHILE)) is None:
                return None
            session.cancel()
        return await scene.soon(BACK, lambda: watch.error("57014"))

    await scene.insist(injection, attempt)
    injection.healed = injection.effect


async def statement_timeout(scene: Scene, injection: Injection, fault: StatementTimeout) -> None:
    """All sessions of the worker are under the timeout, and one is stopped for longer in the middle of a statement."""
    watch = _ask(scene, injection)
    lift = scene.run.sessions.impose(scene.name(injection), {"statement_timeout": _milliseconds(fault.timeout)})

    async def attempt() -> str | None:
        with _catch(scene, injection, Point.STATEMENT_START, nth=2) as catch:
            if await catch.wait(WHILE) is None:
                return None
            await asyncio.sleep(fault.timeout + MARGIN)
        return await scene.soon(BACK, lambda: watch.error("57014"))

    await scene.insist(injection, attempt)
    lift()
    scene.healed(injection, "its statements may last")


async def lock_timeout(scene: Scene, injection: Injection, fault: LockTimeout) -> None:
    """A transaction of the worker is stopped after its BEGIN, until a stranger has locked what it will change first."""
    watch = _ask(scene, injection)
    contention = _contention(scene)

    async def attempt() -> str | None:
        with _catch(scene, injection, None, _fresh) as catch:
            if (session := await catch.wait(WHILE)) is None:
                return None
            async with _stranger(scene) as stranger:
                await stranger.execute(contention.first.encode())
                session.set({"lock_timeout": _milliseconds(fault.timeout)}, local=True)
                session.let_go()
                return await scene.soon(fault.timeout + WHILE, lambda: watch.error("55P03"))

    await scene.insist(injection, attempt)
    scene.healed(injection, "the stranger has gone")


async def deadlock(scene: Scene, injection: Injection, fault: Deadlock) -> None:
    """A transaction of the worker is stopped after its BEGIN, until a stranger has locked what it will change later; when it
    waits for that, the stranger asks for what it has changed. Its own check comes first, so PostgreSQL ends it.
    """
    watch = _ask(scene, injection)
    contention = _contention(scene)

    async def attempt() -> str | None:
        with _catch(scene, injection, None, _fresh) as catch:
            if (session := await catch.wait(WHILE)) is None:
                return None
            async with _stranger(scene) as stranger:
                await stranger.execute(contention.later.encode())
                session.set({"deadlock_timeout": _milliseconds(DETECTION)}, local=True)
                session.let_go()
                if not await scene.soon(WHILE, lambda: _waits_for_table(session)):
                    return None
                crossing = asyncio.create_task(stranger.execute(contention.first.encode()))
                seen = await scene.soon(WHILE, lambda: watch.error("40P01"))
                await crossing
                return seen

    await scene.insist(injection, attempt)
    injection.healed = injection.effect


async def serialization_failure(scene: Scene, injection: Injection, fault: SerializationFailure) -> None:
    """A repeatable read transaction of the worker has its snapshot and is stopped at the start of its UPDATE, until a
    stranger has committed a change of the same rows.
    """
    watch = _ask(scene, injection)
    contention = _contention(scene)

    def about_to_change(session: Session) -> bool:
        return bool(_REPEATABLE.match(session.begun) and _UPDATE.match(session.asked))

    async def attempt() -> str | None:
        with _catch(scene, injection, Point.STATEMENT_START, about_to_change) as catch:
            if await catch.wait(WHILE) is None:
                return None
            async with _stranger(scene) as stranger:
                await stranger.execute(contention.change.encode())
                await stranger.commit()
        return await scene.soon(BACK, lambda: watch.error("40001"))

    await scene.insist(injection, attempt)
    injection.healed = injection.effect


async def idle_in_transaction(scene: Scene, injection: Injection, fault: IdleInTransactionTimeout) -> None:
    """A session in an open transaction gets the timeout, and hears nothing from its worker until that is over."""
    watch = _ask(scene, injection)
    settings = {"idle_in_transaction_session_timeout": _milliseconds(fault.timeout)}

    async def attempt() -> str | None:
        with _catch(scene, injection, None) as catch:
            if (session := await catch.wait(WHILE)) is None or not session.set(settings, local=True):
                return None
            return await scene.soon(fault.timeout + WHILE, lambda: watch.error("25P03"))

    await scene.insist(injection, attempt)
    injection.healed = injection.effect


async def read_only(scene: Scene, injection: Injection, fault: ReadOnly) -> None:
    """Whatever the worker itself sets: before each of its statements."""
    watch = _ask(scene, injection)
    lift = scene.run.sessions.impose(
        scene.name(injection), {"default_transaction_read_only": "on"}, inside={"transaction_read_only": "on"}
    )
    if await scene.seen(injection, lambda: watch.error("25006")):
        await injection.hold(fault.duration)
    lift()
    scene.healed(injection, "it may write again")


def _ask(scene: Scene, injection: Injection) -> TrafficWatch:
    """From now on; the worker may go on."""
    injection.asked = scene.clock()
    injection.release()
    return TrafficWatch(scene.run, scene.name(injection))


def _fresh(session: Session) -> bool:
    """Whether its transaction has only just begun."""
    return session.asked == session.begun


def _waits_for_table(session: Session) -> str | None:
    standing = session.standing
    return "waits" if isinstance(standing, Blocked) and standing.wait_event == "relation" else None


@contextlib.contextmanager
def _catch(
    scene: Scene,
    injection: Injection,
    at: Point | None,
    wanted: Callable[[Session], bool] = lambda session: True,
    *,
    nth: int = 1,
) -> Iterator[Catch]:
    """Lie in wait for a session of the worker; whatever was caught goes on afterwards."""
    catch = scene.run.sessions.catch(scene.name(injection), at, wanted, nth=nth)
    try:
        yield catch
    finally:
        catch.give_up()


@contextlib.asynccontextmanager
async def _stranger(scene: Scene) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A session of somebody else, in a transaction that is rolled back. It lets the others find a deadlock, and gives up
    when it has waited for too long.
    """
    conn = await psycopg.AsyncConnection.connect(scene.run.dsn, application_name="stranger")
    try:
        await conn.execute(f"set deadlock_timeout = '1h'; set lock_timeout = '{_milliseconds(3 * WHILE)}'".encode())
        yield conn
    finally:
        await conn.close()


def _contention(scene: Scene) -> Contention:
    if scene.contention is None:
        raise ValueError("the scenario does not say how a stranger gets in the way of its transactions: contention")
    return scene.contention


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
