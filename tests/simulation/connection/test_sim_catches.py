"""Promise: a session is stopped where it is asked for and nowhere else, others act meanwhile, and settings come and go."""

import asyncio
from errno import EIO, ENOSPC
from typing import Any

import psycopg
import pytest
from sim_programs import Simulate, cents, connect, fetch

from duress.simulator import Catch, Held, Io, Point, Run, Session


async def caught(catch: Catch) -> Session:
    session = await catch.wait()
    assert session is not None
    return session


async def code_of(doing: Any) -> str | None:
    try:
        await doing
    except psycopg.Error as error:
        return error.sqlstate or "lost"
    return None


async def worker(run: Run) -> list[str | None]:
    conn = await connect(autocommit=True)
    return [await code_of(conn.execute("select cents + 1 from account where id = 1")) for _ in range(3)]


def test_the_next_session_of_a_process_stands_at_the_point_until_it_is_let_go(simulate: Simulate) -> None:
    async def main(run: Run) -> tuple[float, list[str | None]]:
        process = run.process("worker", worker, run)
        catch = run.sessions.catch("worker", Point.STATEMENT_START)
        conn = await connect(autocommit=True)
        await conn.execute("select 1")  # of another process
        session = await caught(catch)
        assert session.process == "worker" and isinstance(session.standing, Held)
        await asyncio.sleep(5)
        session.let_go()
        await process.ended()
        return run.now, run.result("worker")

    now, codes = simulate().run(main, seed=1).result
    assert now >= 5
    assert codes == [None, None, None]


def test_who_is_not_wanted_passes_and_a_catch_that_is_given_up_catches_nobody(simulate: Simulate) -> None:
    async def main(run: Run) -> float:
        unwanted = run.sessions.catch("main", Point.STATEMENT_START, lambda session: "account" in session.asked)
        given_up = run.sessions.catch("main", Point.STATEMENT_START)
        given_up.give_up()
        conn = await connect(autocommit=True)
        await conn.execute("select 1")
        assert unwanted.caught is None and given_up.caught is None
        unwanted.give_up()
        await conn.execute("select from account")
        return run.now

    assert simulate(holds=0).run(main).result < 0.1


def test_a_statement_is_cancelled_in_its_middle(simulate: Simulate) -> None:
    setup = """
        create table account (id int primary key, cents int not null);
        create function inner() returns int language plpgsql as 'begin return (select count(*) from account); end';
    """

    async def main(run: Run) -> list[str | None]:
        conn = await connect(autocommit=True)
        await conn.execute("select inner()", prepare=True)
        codes = []
        for nth in (1, 2):
            catch = run.sessions.catch("main", Point.STATEMENT_START, nth=nth)
            task = asyncio.create_task(code_of(conn.execute("select inner()", prepare=True)))
            (await caught(catch)).cancel()
            catch.give_up()
            codes.append(await task)
        return codes

    # PostgreSQL forgets a request that comes between Bind and Execute of a prepared statement.
    assert simulate(setup).run(main, seed=1).result == [None, "57014"]


def test_a_timeout_goes_off_while_a_statement_is_stopped(simulate: Simulate) -> None:
    async def main(run: Run) -> tuple[str | None, str, str]:
        conn = await connect(autocommit=True)
        await conn.execute("select 1")
        lift = run.sessions.impose("main", {"statement_timeout": "100ms"})
        catch = run.sessions.catch("main", Point.STATEMENT_START)
        task = asyncio.create_task(code_of(conn.execute("select count(*) from account")))
        await caught(catch)
        await asyncio.sleep(0.11)
        catch.give_up()
        code = await task
        ((during,),) = await fetch(conn, "show statement_timeout")
        lift()
        ((after,),) = await fetch(conn, "show statement_timeout")
        return code, during, after

    assert simulate(holds=0).run(main).result == ("57014", "100ms", "0")


def test_settings_are_imposed_whatever_the_program_sets_and_put_back_afterwards(simulate: Simulate) -> None:
    async def main(run: Run) -> list[str | None]:
        conn = await connect(autocommit=True)
        await conn.execute("set lock_timeout = '7s'")
        await conn.execute("begin")
        lift = run.sessions.impose("main", {"lock_timeout": "9s"}, inside={"transaction_read_only": "on"})
        codes = [await code_of(conn.execute("update account set cents = 0"))]
        codes.append(await code_of(conn.execute("rollback")))
        ((during,),) = await fetch(conn, "show lock_timeout")
        lift()
        ((after,),) = await fetch(conn, "show lock_timeout")
        codes.append(await code_of(conn.execute("update account set cents = 0")))
        return [*codes, during, after]

    assert simulate().run(main, seed=3).result == ["25006", None, None, "9s", "7s"]


def test_a_failed_transaction_is_left_alone_until_it_is_rolled_back(simulate: Simulate) -> None:
    """It would not even say what a setting is."""

    async def main(run: Run) -> list[str | None]:
        conn = await connect(autocommit=True)
        await conn.execute("begin")
        codes = [await code_of(conn.execute("select 1 / 0"))]
        lift = run.sessions.impose("main", {"default_transaction_read_only": "on"}, inside={})
        codes.append(await code_of(conn.execute("rollback")))
        codes.append(await code_of(conn.execute("update account set cents = 0")))
        lift()
        codes.append(await code_of(conn.execute("update account set cents = 0")))
        return codes

    assert simulate().run(main, seed=3).result == ["22012", None, "25006", None]


def test_a_session_is_stopped_between_two_statements_of_a_transaction(simulate: Simulate) -> None:
    async def main(run: Run) -> tuple[str | None, float]:
        catch = run.sessions.catch("worker", None)
        process = run.process("worker", transfer, run)
        session = await caught(catch)
        assert session.set({"idle_in_transaction_session_timeout": "250ms"}, local=True)
        await process.ended()
        catch.give_up()
        return run.result("worker"), run.now

    async def transfer(run: Run) -> str | None:
        conn = await connect()
        return await code_of(conn.execute("update account set cents = 0 where id = 1"))

    simulation = simulate()
    for seed in range(4):
        code, now = simulation.run(main, seed=seed).result
        assert code == "25P03"
        assert 0.25 < now < 0.3


@pytest.mark.parametrize(("at", "present"), [(Point.BEFORE_COMMIT, 100), (Point.COMMITTED, 7)])
def test_the_server_crashes_around_a_commit_record(simulate: Simulate, at: Point, present: int) -> None:
    async def main(run: Run) -> tuple[str | None, int]:
        conn = await connect()
        await conn.execute("update account set cents = 7 where id = 1")
        catch = run.sessions.catch("main", at, lambda session: session.commits)
        task = asyncio.create_task(code_of(conn.commit()))
        run.server.kill(await caught(catch))
        await run.server.ready()
        async with await connect() as other:
            return await task, await cents(other, 1)

    assert simulate().run(main, seed=1).result == ("lost", present)


def test_strangers_take_every_connection_and_leave_again(simulate: Simulate) -> None:
    async def main(run: Run) -> tuple[str, int]:
        conn = await connect(autocommit=True)
        run.server.take_connections()
        with pytest.raises(psycopg.OperationalError) as caught:
            await connect()
        await conn.execute("select 1")  # who has one keeps it
        run.server.give_back()
        async with await connect() as other:
            return str(caught.value), await cents(other, 1)

    simulation = simulate()
    for seed in range(3):
        said, found = simulation.run(main, seed=seed).result
        assert "too many clients" in said
        assert found == 100
    assert simulation.check_twice(main, seed=9).result[1] == 100


GROW = "insert into account select id, 1 from generate_series(%s::int, %s::int) as id"


def test_a_full_disk_fails_what_grows_until_there_is_room_again(simulate: Simulate) -> None:
    async def main(run: Run) -> tuple[list[str | None], bool, bool]:
        conn = await connect(autocommit=True)
        none = run.server.io_failures == 0
        run.server.fail_io(ENOSPC, Io.DATA_WRITE)
        codes = [await code_of(conn.execute(GROW, [at, at + 2000])) for at in (3, 3)]
        async with await connect(autocommit=True) as other:  # opened meanwhile
            codes.append(await code_of(other.execute(GROW, [3, 2003])))
        some = run.server.io_failures >= 3
        run.server.mend()
        codes.append(await code_of(conn.execute(GROW, [3, 2003])))
        return codes, none, some

    assert simulate().run(main, seed=1).result == (["53100", "53100", "53100", None], True, True)


@pytest.mark.parametrize(("number", "kind"), [(EIO, Io.WAL_SYNC), (ENOSPC, Io.WAL_WRITE)])
def test_where_the_log_cannot_be_kept_the_server_goes_down(simulate: Simulate, number: int, kind: Io) -> None:
    """Also where a sync fails, though this server usually does without."""

    async def main(run: Run) -> tuple[list[str | None], int]:
        conn, other = await connect(autocommit=True), await connect(autocommit=True)
        run.server.fail_io(number, kind, process="main", times=1)
        codes = [await code_of(conn.execute("update account set cents = 7 where id = 1"))]
        await run.server.ready()
        codes.append(await code_of(other.execute("select 1")))
        run.server.mend()
        async with await connect(autocommit=True) as again:
            await again.execute("update account set cents = 8 where id = 2")
            return codes, await cents(again, 2)

    codes, found = simulate().run(main, seed=1).result
    assert codes[0] in ("lost", "53100", "58030", "XX000", "57P02")
    assert codes[1] in ("lost", "57P02")
    assert found == 8


class Counting(psycopg.AsyncConnection[Any]):
    """A program's own class, which watches what it waits for and closes."""

    waited = 0
    closings = 0

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        self.waited += 1
        return await super().wait(*args, **kwargs)

    async def close(self) -> None:
        self.closings += 1
        await super().close()


def test_what_a_programs_own_connection_class_does_comes_first(simulate: Simulate) -> None:
    async def main(run: Run) -> tuple[int, int, bool]:
        conn = await Counting.connect(run.dsn, autocommit=True)
        await conn.execute("select 1")
        waited = conn.waited
        await conn.close()
        return waited, conn.closings, conn.closed

    assert simulate().run(main).result == (1, 1, True)
