"""At most one job may run. The function counts and then claims: one call, and yet two of them get a job each.

To the client it is one statement. That it can be interrupted between its two is only seen by holding it there.
"""

import psycopg

from duress.simulator import DSN, Run

SETUP = """
create table job (id int primary key, running bool not null default false);
create table permit (id int primary key);
create function claim(careful bool) returns int language plpgsql as $$
declare
    claimed int;
begin
    if careful then
        perform from permit where id = 1 for update;
    end if;
    if (select count(*) from job where running) > 0 then
        return null;
    end if;
    update job set running = true
    where id = (select id from job where not running order by id for update skip locked limit 1)
    returning id into claimed;
    return claimed;
end $$;
"""
DATA = "insert into job select n from generate_series(1, 3) n; insert into permit values (1)"


async def work(careful: bool) -> None:
    async with await psycopg.AsyncConnection.connect(DSN, autocommit=True) as conn:
        await conn.execute("select claim(%s)", (careful,))


async def broken(run: Run) -> None:
    await _two(run, careful=False)


async def corrected(run: Run) -> None:
    await _two(run, careful=True)


async def _two(run: Run, *, careful: bool) -> None:
    for worker in [run.process(f"worker-{n}", work, careful) for n in (1, 2)]:
        await worker.ended()
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        row = await (await conn.execute("select count(*) from job where running")).fetchone()
    assert row == (1,), f"{row} jobs run at one time"
