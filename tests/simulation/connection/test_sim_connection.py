"""Promise: whatever psycopg can do over a connection works in a run, unmodified, with its latencies in virtual time."""

import asyncio
import datetime
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sim_programs import Simulate, connect, fetch

from duress.simulator import DSN, Escape, NetworkSettings, Run


def test_each_round_trip_takes_the_latency_of_two_legs(simulate: Simulate) -> None:
    async def main(run: Run) -> list[float]:
        before = run.now
        conn = await connect(autocommit=True)
        connected = run.now
        await conn.execute("select 1")
        once = run.now
        await conn.set_autocommit(False)
        await conn.execute("select 1")  # two round trips: BEGIN first
        twice = run.now
        await conn.close()
        assert run.now == twice
        return [connected - before, once - connected, twice - once]

    simulation = simulate(holds=0)
    for seed in range(5):
        connecting, once, twice = simulation.run(main, seed=seed).result
        assert 0.0004 <= connecting <= 0.002
        assert 0.0004 <= once <= 0.002
        assert 0.0008 <= twice <= 0.004
    fixed = simulate(holds=0, network=NetworkSettings(latency=(0.5, 0.5))).run(main).result
    assert fixed == pytest.approx([1, 1, 2])


def test_the_server_and_the_program_share_one_clock(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        async with await connect(autocommit=True) as conn:
            before = datetime.datetime.now(datetime.UTC)
            ((there,),) = await fetch(conn, "select clock_timestamp()")
            assert before < there < datetime.datetime.now(datetime.UTC)
            ((slept,),) = await fetch(conn, "select clock_timestamp() - %s from pg_sleep(3600)", there)
            assert 3600 <= slept.total_seconds() < 3601
        assert 3600 < run.now < 3601

    simulate().run(main)


def test_transactions_savepoints_prepared_statements_and_row_factories(simulate: Simulate) -> None:
    async def main() -> Any:
        async with await connect(row_factory=dict_row, prepare_threshold=1) as conn:
            for cents in range(4):
                async with conn.transaction():
                    await conn.execute("update account set cents = %s where id = 1", (cents,))
                    with pytest.raises(psycopg.errors.UniqueViolation):
                        async with conn.transaction():
                            await conn.execute("insert into account values (%s, 1)", (2,))
                    await conn.execute("update account set cents = cents + %s where id = 2", (1,))
            for _ in range(3):
                await conn.execute("select %s::int", (1,))
            assert await fetch(conn, "select count(*) from pg_prepared_statements where statement like '%%1::int'") == [
                {"count": 1}
            ]
            return await fetch(conn, "select * from account order by id")

    assert simulate().run(main).result == [{"id": 1, "cents": 3}, {"id": 2, "cents": 104}]


def test_a_pipeline_shares_its_latency(simulate: Simulate) -> None:
    async def main(run: Run) -> Any:
        async with await connect(autocommit=True) as conn:
            before = run.now
            async with conn.pipeline():
                cursors = [
                    await conn.execute("select %s::int, cents from account where id = 1", (n,)) for n in range(20)
                ]
                sent = run.now
                rows = [await cursor.fetchone() for cursor in cursors]
            assert rows == [(n, 100) for n in range(20)]
            async with conn.cursor() as cursor:
                await cursor.executemany("update account set cents = cents + %s where id = 2", [(1,)] * 50)
                assert cursor.rowcount == 50
            return sent - before, run.now - before

    sent, all_of_it = simulate(holds=0).run(main).result
    assert sent <= 0.002  # entering may synchronise; nothing waits for each statement
    assert all_of_it < 0.012


def test_copy_both_ways_also_more_than_a_socket_takes(simulate: Simulate) -> None:
    rows = 40_000

    async def main() -> Any:
        async with await connect(autocommit=True) as conn, conn.cursor() as cursor:
            async with cursor.copy("copy account from stdin") as copy:
                for n in range(10, 10 + rows):
                    await copy.write_row((n, n))
            found = 0
            async with cursor.copy("copy (select id, repeat('x', 200) from account) to stdout") as copy:
                async for _ in copy.rows():
                    found += 1
            with pytest.raises(ZeroDivisionError):  # noqa: PT012
                async with cursor.copy("copy account from stdin") as copy:
                    await copy.write_row((1, 1))
                    raise ZeroDivisionError
            big = await fetch(conn, "select repeat('y', 3000000)")
            return found, (await fetch(conn, "select count(*) from account")), len(big[0][0])

    assert simulate().run(main).result == (rows + 2, [(rows + 2,)], 3_000_000)


def test_a_server_side_cursor_and_a_stream(simulate: Simulate) -> None:
    async def main() -> Any:
        async with await connect() as conn:
            async with conn.cursor("paging") as cursor:
                cursor.itersize = 7
                await cursor.execute("select generate_series(1, 50)")
                paged = [row[0] async for row in cursor]
            async with conn.cursor() as cursor:
                streamed = [row[0] async for row in cursor.stream("select generate_series(1, 50)")]
            return paged == streamed == list(range(1, 51))

    assert simulate().run(main).result is True


def test_notifications_arrive_and_waiting_for_them_times_out(simulate: Simulate) -> None:
    async def listener(run: Run) -> list[str]:
        async with await connect(autocommit=True) as conn:
            await conn.execute("listen news")
            run.heard = []  # type: ignore[attr-defined]
            async for notice in conn.notifies(stop_after=3):
                run.heard.append(notice.payload)  # type: ignore[attr-defined]
            before = run.now
            assert [notice async for notice in conn.notifies(timeout=2.5)] == []
            assert run.now - before == pytest.approx(2.5, abs=0.001)
            assert [notice async for notice in conn.notifies(timeout=0)] == []
        return run.heard  # type: ignore[attr-defined, no-any-return]

    async def main(run: Run) -> Any:
        process = run.process("listener", listener, run)
        await asyncio.sleep(1)
        async with await connect(autocommit=True) as conn:
            for n in range(3):
                await conn.execute("select pg_notify('news', %s)", (str(n),))
                await asyncio.sleep(0.5)
                assert len(run.heard) == n + 1  # type: ignore[attr-defined]
        await process.ended()
        return run.result("listener")

    simulation = simulate()
    for seed in range(10):
        assert simulation.run(main, seed=seed).result == ["0", "1", "2"]


def test_cancellation_reaches_a_statement_that_sleeps_or_waits_for_a_lock(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        async with await connect() as conn, await connect() as other:
            task = asyncio.create_task(conn.execute("select pg_sleep(1000)"))
            await asyncio.sleep(1)
            await conn.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                await task
            await conn.rollback()
            await other.execute("update account set cents = 0 where id = 1")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await conn.execute("update account set cents = 1 where id = 1")
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
            await conn.rollback()
            conn.cancel()  # nothing runs: nothing happens
            await asyncio.sleep(1)
            assert await fetch(conn, "select 1") == [(1,)]
        assert 6 < run.now < 10

    simulation = simulate()
    for seed in range(5):
        simulation.run(main, seed=seed)


def test_timeouts_of_the_server_run_on_virtual_time(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        async with await connect() as holder, await connect() as conn:
            await holder.execute("update account set cents = 0 where id = 1")
            for setting, error in (
                ("lock_timeout = '5s'", psycopg.errors.LockNotAvailable),
                ("statement_timeout = '1h'", psycopg.errors.QueryCanceled),
            ):
                await conn.execute(f"set local {setting}")  # type: ignore[arg-type]
                with pytest.raises(error):
                    await conn.execute("update account set cents = 1 where id = 1")
                await conn.rollback()
        assert 3605 < run.now < 3606
        idle = await connect()
        await idle.execute("set idle_in_transaction_session_timeout = '10min'")
        await asyncio.sleep(601)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await idle.execute("select 1")
        assert idle.closed

    simulate().run(main)


def test_a_session_that_is_terminated_says_why(simulate: Simulate) -> None:
    async def main() -> None:
        conn, other = await connect(), await connect(autocommit=True)
        await conn.execute("select 1")
        await other.execute("select pg_terminate_backend(%s)", (conn.info.backend_pid,))
        await asyncio.sleep(1)
        with pytest.raises(psycopg.errors.AdminShutdown):
            await conn.execute("select 1")
        assert conn.closed and conn.broken
        await other.close()
        with pytest.raises(psycopg.OperationalError, match="the connection is closed"):
            await other.execute("select 1")

    simulate().run(main)


def test_a_refusal_of_the_server_is_libpqs_own(simulate: Simulate) -> None:
    async def main() -> None:
        with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
            await psycopg.AsyncConnection.connect("postgresql://duress@database/nowhere")
        # A program's own strings lead to the run's database.
        async with await psycopg.AsyncConnection.connect(
            "postgresql://app:pw@db.example.com:6432/prod?sslmode=require"
        ) as conn:
            assert await fetch(conn, "select count(*) from account") == [(2,)]

    simulate().run(main)


def test_nothing_of_the_environment_reaches_the_server(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGAPPNAME", "another")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=2MB")
    monkeypatch.setenv("PGHOST", "nowhere")

    async def main() -> Any:
        asked = "select current_setting('application_name'), current_setting('work_mem')"
        async with await connect() as conn, await connect(application_name="mine", options="-c work_mem=3MB") as other:
            return await fetch(conn, asked) + await fetch(other, asked)

    assert simulate().run(main).result == [("", "4MB"), ("mine", "3MB")]


def test_a_connection_class_of_the_programs_own_keeps_its_methods(simulate: Simulate) -> None:
    class Mine(psycopg.AsyncConnection[Any]):
        closings = 0

        async def close(self) -> None:
            Mine.closings += 1
            await super().close()

    async def main() -> None:
        async with await Mine.connect(DSN) as conn:
            assert isinstance(conn, Mine)
            await conn.execute("select 1")

    simulate().run(main)
    assert Mine.closings == 1


def test_a_connection_that_blocks_the_thread_is_refused(simulate: Simulate) -> None:
    async def main() -> None:
        with pytest.raises(Escape, match="use psycopg"):
            psycopg.connect(DSN)
        with pytest.raises(Escape):
            psycopg.Connection.connect(DSN)

    with pytest.raises(Exception, match="swallowed"):
        simulate().run(main)
    assert psycopg.connect is not None
