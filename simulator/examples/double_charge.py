"""A charge whose COMMIT lost its reply is tried again, and was made already."""

import psycopg

from duress.simulator import DSN, Run

SETUP = "create table charge (number int generated always as identity, key text unique, cents int not null)"
DATA = ""


async def charge(key: str | None) -> None:
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(DSN) as conn:
                await conn.execute(
                    "insert into charge (key, cents) values (%s, 500) on conflict (key) do nothing", (key,)
                )
            return
        except psycopg.OperationalError:
            continue  # the connection is lost: once more


async def broken(run: Run) -> None:
    await _under_fire(run, None)


async def corrected(run: Run) -> None:
    await _under_fire(run, "order-17")


async def _under_fire(run: Run, key: str | None) -> None:
    if run.choices.draw("faults", 4, "lose a reply?") == 3:
        run.network.lose_reply("customer", commit=1)
    customer = run.process("customer", charge, key)
    await customer.ended()
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        row = await (await conn.execute("select sum(cents) from charge")).fetchone()
    assert row == (500,), f"the customer paid {row}"
