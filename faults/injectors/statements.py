"""Faults of one worker's sessions and statements. PostgreSQL does them by itself: the proxy gives the sessions settings that
their worker would not have chosen, a stranger gets in their way, and the server's log says what came of it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

import psycopg

from duress.faults.contention import Contention
from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.sessions import Sessions, application_name
from duress.faults.injectors.target import Target
from duress.faults.network import Reading
from duress.faults.observe import LogWatch, Observer, Sighting
from duress.faults.plan import (
    CancelStatement,
    Deadlock,
    IdleInTransactionTimeout,
    LockTimeout,
    ReadOnly,
    SerializationFailure,
    StatementTimeout,
)
from duress.faults.proxy.orders import Interject, Pattern, Strike

# Seconds.
WHILE: Final = 1.0  # that one attempt waits for what must follow; a stranger holds others up no longer
AGAIN: Final = 0.02  # between two attempts
DETECTION: Final = (
    0.4  # deadlock_timeout of the transaction that is to find it: by then the stranger has crossed its way
)
POLL: Final = 0.003
UPDATE: Final = r"^\s*update\b"
STRANGER: Final = "duress:stranger"

Attempt = Callable[[], Awaitable[None]]


class StatementFaults:
    """The lives of injections that strike sessions between the worker's statements. `clock` is the observer's."""

    def __init__(self, target: Target, observer: Observer, sessions: Sessions, patience: Patience) -> None:
        self._target = target
        self._observer = observer
        self._sessions = sessions
        self._patience = patience
        self._contending = asyncio.Lock()  # one stranger at a time: two would get in each other's way

    async def cancel(self, injection: Injection, fault: CancelStatement) -> None:
        """pg_cancel_backend while a statement runs."""

        async def attempt() -> None:
            name = self._name(injection)
            if name is not None:
                await self._sessions.cancel(name)

        await self._insist(injection, "57014", attempt)

    async def statement_timeout(self, injection: Injection, fault: StatementTimeout) -> None:
        """A stranger holds what a transaction under the timeout needs."""
        await self._out_of_time(injection, "statement_timeout", fault.timeout, "57014")

    async def lock_timeout(self, injection: Injection, fault: LockTimeout) -> None:
        """The same, and it is the wait for the lock that may not last."""
        await self._out_of_time(injection, "lock_timeout", fault.timeout, "55P03")

    async def deadlock(self, injection: Injection, fault: Deadlock) -> None:
        """A stranger holds what a transaction will want later; when it waits for that, he asks for what it has."""
        contention = self._contention

        async def attempt() -> None:
            setting = Interject(sql=f"set local deadlock_timeout = {_ms(DETECTION)}", times=None, inside=True)
            async with self._stranger() as stranger, self._armed(injection, setting):
                await stranger.execute(contention.later.encode())
                if await self._soon(lambda: self._waits_for_table(injection)):
                    await stranger.execute(contention.first.encode())

        await self._insist(injection, "40P01", attempt)

    async def serialization_failure(self, injection: Injection, fault: SerializationFailure) -> None:
        """A transaction has its snapshot and is held before its UPDATE, until a stranger has changed the same rows."""
        contention, network = self._contention, self._network

        async def attempt() -> None:
            snapshot = Interject(sql="select 1", inside=True, statement=UPDATE, times=None)
            held = Strike(pattern=Pattern(direction="to-server", statement=UPDATE), deed="hold")
            async with self._armed(injection, snapshot), self._armed(injection, held) as hold:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WHILE):
                        await network.struck(hold)
                        async with self._stranger() as stranger:
                            await stranger.execute(contention.change.encode())
                            await stranger.commit()

        await self._insist(injection, "40001", attempt)

    async def idle_in_transaction(self, injection: Injection, fault: IdleInTransactionTimeout) -> None:
        """What the worker asks next in an open transaction reaches the server too late."""
        setting = Interject(
            sql=f"set local idle_in_transaction_session_timeout = {_ms(fault.timeout)}",
            inside=True,
            pause=fault.timeout + WHILE / 2,
        )

        async def attempt() -> None:
            async with self._armed(injection, setting) as rule:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WHILE):
                        await self._network.struck(rule)
                        await asyncio.sleep(fault.timeout)

        await self._insist(injection, "25P03", attempt)

    async def read_only(self, injection: Injection, fault: ReadOnly) -> None:
        """Before each exchange of the worker, whatever it sets itself; undone on each connection when it is over."""
        outside = Interject(sql="set default_transaction_read_only = on", times=None, inside=False)
        inside = Interject(sql="set transaction_read_only = on", times=None, inside=True)
        log = self._begin(injection)
        async with self._armed(injection, outside), self._armed(injection, inside):
            sighting = await self._seen(injection, log, "25006")
            if sighting is not None:
                injection.took_effect(sighting)
                await injection.hold(fault.duration)
        back = Interject(sql="set default_transaction_read_only = off", each_connection=True)
        rule = await self._network.arm(
            injection.worker, back
        )  # for as long as there may be a session that was not told
        if sighting is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience.victim):
                await self._network.struck(rule)
        injection.was_healed(Sighting(self._observer.clock(), "its sessions may write again"))

    async def _out_of_time(self, injection: Injection, setting: str, timeout: float, sqlstate: str) -> None:
        contention = self._contention
        rule = Interject(sql=f"set local {setting} = {_ms(timeout)}", times=None, inside=True)

        async def attempt() -> None:
            async with self._stranger() as stranger, self._armed(injection, rule):
                await stranger.execute(contention.first.encode())
                if await self._soon(lambda: self._waits_for_table(injection)):
                    await asyncio.sleep(2 * timeout)

        await self._insist(injection, sqlstate, attempt)

    # What they have in common

    async def _insist(self, injection: Injection, sqlstate: str, attempt: Attempt) -> None:
        """Try until the worker's sessions are told this error, or somebody wants it healed; the worker goes on meanwhile."""
        log = self._begin(injection)
        while True:
            with contextlib.suppress(psycopg.Error):  # another fault took the server away, or it took too long
                await attempt()
            sighting = await self._look(injection, log, sqlstate)
            if sighting is not None:
                injection.took_effect(sighting)
                injection.healed = sighting.at
                return
            if injection.healing.is_set():
                injection.missed(f"no session of worker {injection.worker} was told {sqlstate}")
                return
            await asyncio.sleep(AGAIN)

    def _begin(self, injection: Injection) -> LogWatch:
        injection.asked = self._observer.clock()
        injection.release()
        log = self._observer.log()
        assert log is not None, "refused before"
        return log

    async def _look(self, injection: Injection, log: LogWatch, sqlstate: str) -> Sighting | None:
        """Whether the log says it of this worker; it is written a little later."""
        name = self._name(injection)
        return None if name is None else await self._observer.see(lambda: log.told(name, sqlstate), 0.05)

    async def _seen(self, injection: Injection, log: LogWatch, sqlstate: str) -> Sighting | None:
        """Wait for it; None (and the injection missed) if somebody wants it healed before."""
        while (sighting := await self._look(injection, log, sqlstate)) is None:
            if injection.healing.is_set():
                injection.missed(f"no session of worker {injection.worker} was told {sqlstate}")
                return None
        return sighting

    @contextlib.asynccontextmanager
    async def _armed(self, injection: Injection, rule: Interject | Strike) -> AsyncIterator[int]:
        number = await self._network.arm(injection.worker, rule)
        try:
            yield number
        finally:
            await self._network.withdraw(injection.worker, number)

    @contextlib.asynccontextmanager
    async def _stranger(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A session of somebody else, in a transaction that is rolled back. It leaves it to others to find a deadlock, and
        gives up when it has waited for too long.
        """
        async with (
            self._contending,
            await psycopg.AsyncConnection.connect(self._target.dsn, application_name=STRANGER) as stranger,
        ):
            await stranger.execute(f"set deadlock_timeout = '1h'; set lock_timeout = {_ms(WHILE)}".encode())
            await stranger.commit()
            try:
                yield stranger
            finally:
                await stranger.rollback()

    async def _waits_for_table(self, injection: Injection) -> bool:
        name = self._name(injection)
        return name is not None and await self._sessions.waits_for_table(name)

    async def _soon(self, look: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it becomes true within `WHILE`."""
        deadline = self._observer.clock() + WHILE
        while not await look():
            if self._observer.clock() >= deadline:
                return False
            await asyncio.sleep(POLL)
        return True

    def _name(self, injection: Injection) -> str | None:
        process = self._target.process(injection.worker)
        if process is None or process.incarnation is None:
            return None
        return application_name(process.incarnation)

    @property
    def _network(self) -> Reading:
        return cast(Reading, self._target.network)

    @property
    def _contention(self) -> Contention:
        if self._target.contention is None:
            raise ValueError("the scenario does not say how a stranger gets in the way of its transactions: contention")
        return self._target.contention


def _ms(seconds: float) -> str:
    return f"'{max(1, round(seconds * 1000))}ms'"
