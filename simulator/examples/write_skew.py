"""Each doctor may leave if another stays on call. Under repeatable read both look, and both leave."""

import psycopg
from psycopg import IsolationLevel

from duress.simulator import DSN, Run

SETUP = "create table doctor (name text primary key, on_call bool not null)"
DATA = "insert into doctor values ('ada', true), ('bob', true)"


async def leave(name: str, level: IsolationLevel) -> None:
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        await conn.set_isolation_level(level)
        while True:
            try:
                async with conn.transaction():
                    row = await (await conn.execute("select count(*) from doctor where on_call")).fetchone()
                    assert row is not None
                    if row[0] > 1:
                        await conn.execute("update doctor set on_call = false where name = %s", (name,))
                break
            except psycopg.errors.SerializationFailure:
                continue


async def broken(run: Run) -> None:
    await _both(run, IsolationLevel.REPEATABLE_READ)


async def corrected(run: Run) -> None:
    await _both(run, IsolationLevel.SERIALIZABLE)


async def _both(run: Run, level: IsolationLevel) -> None:
    for doctor in [run.process(name, leave, name, level) for name in ("ada", "bob")]:
        await doctor.ended()
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        row = await (await conn.execute("select count(*) from doctor where on_call")).fetchone()
    assert row == (1,), f"{row} doctors are on call"
