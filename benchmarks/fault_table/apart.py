"""Transfers that never meet: each has accounts of its own, so that an error that a worker is told of comes from a fault.

Each worker says what psycopg raised in it, what took long, and what it finds the server to be: it is the client that the table
asks. It says so by `reachable`, which reaches the history from a process, a container and a simulated worker alike.
"""

import asyncio
import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import psycopg

from duress.engine import reachable, transaction, workflow
from duress.engine.errors import WorkflowNotFound
from duress.scenarios.library import payments
from duress.scenarios.spec import World

ACCOUNTS: Final = 600
LONG: Final = 0.3  # seconds that no answer takes without a fault
MORE: Final = 4  # transfers of each lane after the last fault
# Of an error that has no sqlstate, as of any that comes while connecting, or while nothing was asked.
HINTS: Final = (
    "administrator command",
    "Connection refused",
    "too many clients",
    "connection slots",
    "not yet accepting",
    "shutting down",
)
OFF: Final = 1.0  # seconds by which no clock is off without one

_watched = False


VERBS: Final = ("connect", "wait", "execute")  # all that psycopg does with a server goes through these


def saw(what: str) -> None:
    reachable(f"client saw {what}")


def watch() -> None:
    """From now on this process says what its psycopg raises, and what took long. Again whenever the simulator has put
    verbs of its own in the place of psycopg's.
    """
    for owner, name in itertools.product((psycopg.AsyncCursor, *_kinds(psycopg.AsyncConnection)), VERBS):
        verb = owner.__dict__.get(name)
        if isinstance(verb, classmethod):
            if not hasattr(verb.__func__, "tells"):
                setattr(owner, name, classmethod(_telling(verb.__func__)))
        elif verb is not None and not hasattr(verb, "tells"):
            setattr(owner, name, _telling(verb))


def _kinds(connection: type) -> Iterator[type]:
    """A class of connections, and those that are derived from it."""
    yield connection
    for derived in connection.__subclasses__():
        yield from _kinds(derived)


def _telling(verb: Callable[..., Awaitable[Any]]) -> Any:
    @functools.wraps(verb)
    async def told(*args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await verb(*args, **kwargs)
        except psycopg.errors._WaitTimeout:  # nobody has notified, which is no error
            raise
        except psycopg.Error as error:
            saw(f"error {_words(error)}")
            raise
        finally:
            # Watching over a neighbour is waiting for it; all other statements are answered at once.
            if verb.__name__ == "execute" and loop.time() - began >= LONG and "watch_v" not in str(args[1]):
                saw("an answer take long")

    told.tells = True  # type: ignore[attr-defined]
    return told


def _words(error: psycopg.Error) -> str:
    """What the catalogue has in its last column."""
    text = str(error)
    if error.sqlstate is not None:
        return f"{type(error).__name__} {error.sqlstate}"
    for hint in HINTS:
        if hint in text:
            return f"{type(error).__name__} without sqlstate: {hint}"
    return f"{type(error).__name__} without sqlstate"


@transaction
async def take(tx: psycopg.AsyncConnection[Any], account: str, cents: int) -> int:
    """Take money from an account and put it in transit; returns the new balance."""
    await look(tx)
    return await payments.move(tx, "debit", account, -cents)


async def look(tx: psycopg.AsyncConnection[Any]) -> None:
    """Say what server this is, whether sessions are one's own, and what time it is."""
    row = await (
        await tx.execute(
            "select pid || ' since ' || backend_start, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),"
            " extract(epoch from clock_timestamp())::float8 from pg_stat_activity where backend_type = 'checkpointer'"
        )
    ).fetchone()
    if row is not None:  # between two checkpointers there is none
        saw(f"checkpointer {row[0]}")
        saw(f"timeline {int(row[1], 16)}")
        if abs(time.time() - row[2]) >= OFF:
            saw("its clock off")
    if tx.prepare_threshold is None:
        saw("a pooler")


@workflow
async def apart(source: str, target: str, cents: int) -> str:
    watch()
    await take(source, cents)
    await payments.charge(source, cents)
    await payments.credit(target, cents)
    return "done"


async def setup(connection: psycopg.AsyncConnection[Any]) -> None:
    await payments.setup(connection)
    await connection.execute(
        "insert into account (id, balance, opening) select 'apart-' || n, 1000, 1000 from generate_series(0, %s) n",
        [ACCOUNTS - 1],
    )


async def workload(world: World) -> None:
    """Lanes that go on for as long as there are faults to come, and a little longer: what has struck is to be seen."""
    numbers = itertools.count()

    async def lane() -> None:
        more = MORE
        while (going := world.going(number := next(numbers), world.options["transfers"])) or more:
            more -= not going
            source, target = (f"apart-{place % ACCOUNTS}" for place in (2 * number, 2 * number + 1))
            read = False
            while not read:  # one that was accepted, and lost in a failover, is started again
                await world.engine.start(payments.identify(number), apart, source, target, 1)
                with contextlib.suppress(WorkflowNotFound):
                    await payments.outcome(world, number)
                    read = True

    async with asyncio.TaskGroup() as lanes:
        for _ in range(world.options["lanes"]):
            lanes.create_task(lane())


scenario: Final = replace(
    payments.payments,
    name="apart",
    doc="transfers that never meet",
    module=__name__,
    setup=setup,
    workload=workload,
    options={"transfers": 24, "lanes": 8},
    simulated={"transfers": 8, "lanes": 4},
    sometimes=(),
)

if getattr(sys.modules["__main__"].__spec__, "name", "").startswith("duress.scenarios."):
    watch()  # this is a worker, or simulates some; the harness itself, which imports this too, is left alone
