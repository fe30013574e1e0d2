"""Read, add, write back: of two deposits at one time one is lost."""

import psycopg

from duress.simulator import DSN, Run
from duress.simulator.run import Program

SETUP = "create table account (id int primary key, cents int not null)"
DATA = "insert into account values (1, 100)"


async def deposit_wrongly(cents: int) -> None:
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        row = await (await conn.execute("select cents from account where id = 1")).fetchone()
        assert row is not None
        await conn.execute("update account set cents = %s where id = 1", (row[0] + cents,))


async def deposit(cents: int) -> None:
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        await conn.execute("update account set cents = cents + %s where id = 1", (cents,))


async def broken(run: Run) -> None:
    await _two(run, deposit_wrongly)


async def corrected(run: Run) -> None:
    await _two(run, deposit)


async def _two(run: Run, program: Program) -> None:
    clients = [run.process(f"client-{cents}", program, cents) for cents in (10, 20)]
    for client in clients:
        await client.ended()
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        row = await (await conn.execute("select cents from account where id = 1")).fetchone()
    assert row == (130,), f"a deposit is lost: {row}"
