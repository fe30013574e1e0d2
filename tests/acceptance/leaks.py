"""Five scenarios that let something in that no seed decides; each must be told from an honest run.

Where the simulator makes the usual way virtual (sets of str by a fixed hash seed, time.time, uuid4, the order and the
place of rows by a reset of the tables), the leak goes round it, as a library in C or a query of the catalogue would.
"""

import ctypes
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from psycopg import AsyncConnection

from duress import transaction, workflow
from duress.scenarios import Scenario, World


class Order:
    """Hashed by its address."""

    def __init__(self, number: int) -> None:
        self.number = number


class Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


@transaction
async def asked(tx: AsyncConnection[Any], query: str) -> str:
    await tx.execute("lock table a, b, c, d, e, f in share row exclusive mode")
    row = await (await tx.execute(query.encode())).fetchone()
    assert row is not None
    return str(row[0])


@workflow
async def ask(query: str) -> str:
    return await asked(query)


@workflow
async def keep(told: str) -> str:
    return told


async def in_the_order_of_a_set(world: World) -> None:
    for order in {Order(number) for number in range(40)}:
        await (await world.engine.start(f"order-{order.number}", keep, "")).result()


async def of_locks_without_order(world: World) -> None:
    """A table's rows lie where they lay at the start of every run; locks lie by the hash of the database's OID."""
    query = "select array(select relation::regclass from pg_locks where mode = 'ShareRowExclusiveLock' limit 3)"
    await (await world.engine.start("limit", ask, query)).result()


async def by_place_in_the_catalogue(world: World) -> None:
    query = "select ctid from pg_database where datname = current_database()"
    await (await world.engine.start("ctid", ask, query)).result()


async def at_the_time_of_the_machine(world: World) -> None:
    now = Moment()
    ctypes.CDLL(None).clock_gettime(0, ctypes.byref(now))
    await (await world.engine.start("clock", keep, f"{now.seconds}.{now.nanoseconds:09}")).result()


async def by_an_identity_of_the_kernel(world: World) -> None:
    with open("/dev/urandom", "rb") as source:  # noqa: ASYNC230
        name = uuid.UUID(bytes=source.read(16), version=4)
    await (await world.engine.start(f"order-{name}", keep, "")).result()


async def honestly(world: World) -> None:
    for number in range(3):
        await (await world.engine.start(f"order-{number}", keep, str(uuid.uuid4()))).result()


async def setup(connection: AsyncConnection[Any]) -> None:
    for table in "abcdef":
        await connection.execute(f"create table {table} (n int)".encode())


def leaking(workload: Callable[[World], Coroutine[Any, Any, None]]) -> Scenario:
    return Scenario(
        name=workload.__name__,
        doc=workload.__name__.replace("_", " "),
        module=__name__,
        setup=setup,
        workload=workload,
        faults={},
        invariants=("W1",),
    )


set_order = leaking(in_the_order_of_a_set)
limit_without_order = leaking(of_locks_without_order)
ctid = leaking(by_place_in_the_catalogue)
wall_clock = leaking(at_the_time_of_the_machine)
unseeded_uuid = leaking(by_an_identity_of_the_kernel)
honest = leaking(honestly)
