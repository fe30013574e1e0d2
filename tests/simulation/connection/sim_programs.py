"""What the programs of these tests share."""

from collections.abc import Callable
from typing import Any

import psycopg

from duress.simulator import DSN, Simulation

ACCOUNTS = "create table account (id int primary key, cents int not null)"
TWO_ACCOUNTS = "insert into account values (1, 100), (2, 100)"

Simulate = Callable[..., Simulation]
Connection = psycopg.AsyncConnection[Any]


async def connect(**options: Any) -> Connection:
    return await psycopg.AsyncConnection.connect(DSN, **options)


async def fetch(conn: Connection, query: str, *args: Any) -> list[Any]:
    cursor = await conn.execute(query.encode(), args or None)
    return await cursor.fetchall()


async def cents(conn: Connection, account: int) -> int:
    ((found,),) = await fetch(conn, "select cents from account where id = %s", account)
    return int(found)
