"""psycopg's own AsyncConnection on a simulated link: unmodified but for how it waits, connects, cancels and closes.

psycopg describes all its I/O as generators, so whatever it does (pipelines, COPY, server-side cursors, notifications) goes
through `wait`. What libpq writes during a step of the generator is a request that travels; the task waits until bytes have
arrived, in virtual time, and then libpq reads them.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import AdaptContext, ConnParam, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import timeout_from_conninfo
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.rows import AsyncRowFactory, Row

from .errors import SimulationError
from .inside import active
from .patches import attributes

if TYPE_CHECKING:
    from .link import Link
    from .run import Run

logger = logging.getLogger("psycopg")
T = TypeVar("T")
AnyConnection = psycopg.AsyncConnection[Any]

_INTERRUPTED: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
_CANCEL_S: Final = 5.0
# psycopg's Wait and Ready as plain numbers: its flags are slow.
_READING, _WRITING = 1, 2
_READY_TO_READ, _READY_TO_WRITE, _READY_TO_BOTH = 1, 2, 3
_classes: dict[type[AnyConnection], type["SimConnection[Any]"]] = {}
_run: "Run | None" = None


def current_run() -> "Run":
    """The run that is under way. Raises SimulationError outside one."""
    if _run is None:
        raise SimulationError("there is no simulation under way: this works in a program that `run` runs")
    return _run


@contextmanager
def redirected(run: "Run") -> Iterator[None]:
    """Inside, `psycopg.AsyncConnection.connect` leads into the run; connections that block the thread are refused."""
    global _run
    patched: list[tuple[Any, str, Any]] = [
        (psycopg.AsyncConnection, "connect", classmethod(connect)),
        (psycopg.Connection, "connect", classmethod(_refuse)),
        (psycopg, "connect", partial(_refuse, psycopg.Connection)),
    ]
    _run = run
    try:
        with attributes(patched):
            yield
    finally:
        _run = None


_BLOCKING: Final = vars(psycopg.Connection)["connect"].__func__


def _refuse(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
    loop = active()
    if loop is not None:  # else it is the harness that connects
        loop.refuse("psycopg.Connection.connect", "use psycopg.AsyncConnection, whose exchanges the simulation can see")
    return _BLOCKING(cls, *args, **kwargs)


class SimConnection(psycopg.AsyncConnection[Row]):
    """A connection of a simulated process. Programs get it from `psycopg.AsyncConnection.connect`, subclasses theirs."""

    link: "Link"

    async def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As psycopg's, in virtual time: an interruption cancels the statement and waits until the server agrees."""
        try:
            result: T = await drive(gen, self.link, timeout)
        except _INTERRUPTED:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._cancel_interrupted(gen)
            raise
        return result

    async def _cancel_interrupted(self, gen: PQGen[Any]) -> None:
        """psycopg's own reaction, with its own timeouts (see AsyncConnection.wait)."""
        try:
            await self._try_cancel(timeout=_CANCEL_S)
            await drive(gen, self.link, _CANCEL_S)
        except errors.QueryCanceled:
            pass
        except errors._WaitTimeout:
            logger.warning("query not terminated after cancellation: closing connection")
            self._finish()
        except BaseException as error:
            logger.warning("query cancellation interrupted (%s): closing connection", type(error).__name__)
            self._finish()
            if not isinstance(error, Exception):
                raise

    def _finish(self) -> None:
        self.pgconn.finish()
        self.link.collect(closed=True)

    async def close(self) -> None:
        """As psycopg's; the server learns of it when the goodbye has arrived."""
        await super().close()
        if self.pgconn.status == ConnStatus.BAD:
            self.link.collect(closed=True)

    def cancel(self) -> None:
        """Send a cancel request. It arrives, on a connection of its own, a latency later."""
        if self._should_cancel():
            self.link.send_cancel(None)

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """Send a cancel request and wait until the server has taken it. Raises CancellationTimeout after `timeout` s."""
        if not self._should_cancel():
            return
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[None] = loop.create_future()
        self.link.send_cancel(taken)
        timer = loop.call_later(timeout, _expire, taken) if timeout else None
        try:
            await taken
        except errors._WaitTimeout:
            raise errors.CancellationTimeout("cancellation timeout expired") from None
        finally:
            if timer is not None:
                timer.cancel()


def _expire(taken: "asyncio.Future[None]") -> None:
    if not taken.done():
        taken.set_exception(errors._WaitTimeout("wait timeout expired"))


async def drive(gen: Any, link: "Link", timeout: float | None, wanted: int | None = None) -> Any:
    """Run a generator of psycopg's to its end on the link. Raises psycopg.errors._WaitTimeout after `timeout` s.

    `wanted` is what the generator has yielded already, if it was begun.
    """
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    try:
        if wanted is None:
            wanted = next(gen)
        while True:
            link.collect()
            ready = 0
            if wanted & _WRITING:
                # A kernel's buffer is hardly ever full: what libpq writes is on its way at once.
                ready = _READY_TO_BOTH if wanted & _READING and link.readable() else _READY_TO_WRITE
            elif link.readable() or await link.arrival(None if deadline is None else max(0.0, deadline - loop.time())):
                ready = _READY_TO_READ
            wanted = gen.send(ready)
            if type(wanted) is tuple:  # a connecting generator's, with its descriptor
                wanted = wanted[1]
            if deadline is not None and loop.time() >= deadline:
                raise errors._WaitTimeout("wait timeout expired")
    except StopIteration as stop:
        return stop.value
    finally:
        link.collect()


async def connect(
    cls: type[AnyConnection],
    /,
    conninfo: str = "",
    *,
    autocommit: bool = False,
    prepare_threshold: int | None = 5,
    context: AdaptContext | None = None,
    row_factory: AsyncRowFactory[Any] | None = None,
    cursor_factory: Any = None,
    **kwargs: ConnParam,
) -> AnyConnection:
    """What `psycopg.AsyncConnection.connect` is during a run."""
    run = current_run()
    params = await cls._get_connection_params(conninfo, **kwargs)
    try:
        conn = await _open(run, simulated(cls), run.conninfo(params), timeout_from_conninfo(params))
    except psycopg.Error as error:
        raise error.with_traceback(None) from None
    conn._autocommit = bool(autocommit)
    if row_factory:
        conn.row_factory = row_factory
    if cursor_factory:
        conn.cursor_factory = cursor_factory
    if context:
        conn._adapters = AdaptersMap(context.adapters)
    conn.prepare_threshold = prepare_threshold
    return conn


async def _open(run: "Run", cls: type["SimConnection[Any]"], conninfo: str, timeout: float) -> "SimConnection[Any]":
    await run.network.knock()
    gen = cls._connect_gen(conninfo)
    descriptor, wanted = next(gen)
    link = run.accept(descriptor)
    try:
        conn: SimConnection[Any] = await drive(gen, link, timeout, wanted)
    except errors._WaitTimeout:
        link.abandon()
        raise errors.ConnectionTimeout("connection timeout expired") from None
    except BaseException:
        link.abandon()
        raise
    conn.link = link
    link.belongs_to(conn)
    return conn


def simulated(cls: type[AnyConnection]) -> type["SimConnection[Any]"]:
    """The class that makes connections of `cls` in a run: what it does of its own comes first, and then, in the place of
    psycopg's, our ways of waiting and closing.
    """
    if issubclass(cls, SimConnection):
        return cls
    if cls is psycopg.AsyncConnection:
        return SimConnection
    made = _classes.get(cls)
    if made is None:
        made = _classes[cls] = type(cls.__name__, (cls, SimConnection), {"__module__": cls.__module__})
    return made
