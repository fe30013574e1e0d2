"""Transfers that lock the payer before the payee deadlock with those in the other direction."""

import psycopg

from duress.simulator import DSN, Run

SETUP = "create table account (id int primary key, cents int not null)"
DATA = "insert into account values (1, 100), (2, 100)"


async def transfer(source: int, target: int, *, in_order: bool) -> None:
    changes = [(source, -10), (target, 10)]
    if in_order:
        changes.sort()
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        for account, cents in changes:
            await conn.execute("update account set cents = cents + %s where id = %s", (cents, account))


async def broken(run: Run) -> None:
    await _both_ways(run, in_order=False)


async def corrected(run: Run) -> None:
    await _both_ways(run, in_order=True)


async def _both_ways(run: Run, *, in_order: bool) -> None:
    async def there() -> None:
        await transfer(1, 2, in_order=in_order)

    async def back() -> None:
        await transfer(2, 1, in_order=in_order)

    for process in [run.process("there", there), run.process("back", back)]:
        await process.ended()
