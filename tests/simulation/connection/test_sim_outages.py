"""Promise: what happens to the server happens for real, clients see what they would see, and a seed stays one run."""

import asyncio
from typing import Any

import psycopg
import pytest
from sim_programs import Simulate, cents, connect, fetch

from duress.simulator import Run


async def holding(run: Run) -> str:
    """Hold a lock in a transaction until the session is lost; say what was seen then."""
    conn = await connect()
    await conn.execute("update account set cents = 1 where id = 1")
    await asyncio.sleep(10)
    try:
        await conn.execute("select 1")
    except psycopg.Error as error:
        return error.sqlstate or "lost"
    return "alive"


async def insisting(run: Run) -> tuple[float, list[str]]:
    """Connect again and again until it works; when it did, and what was seen on the way."""
    seen: list[str] = []
    while True:
        try:
            async with await connect() as conn:
                assert await cents(conn, 1) in {1, 100}
                return run.now, seen
        except psycopg.OperationalError as error:
            text = str(error)
            seen.append(
                "refused" if "refused" in text else "recovering" if "recovery mode" in text else error.sqlstate or text
            )
        await asyncio.sleep(0.02)


def test_a_session_in_a_transaction_is_terminated_first(simulate: Simulate) -> None:
    async def main(run: Run) -> Any:
        idle = await connect()
        process = run.process("holder", holding, run)
        await asyncio.sleep(1)
        assert run.server.terminate("main", in_transaction=True) is None
        session = run.server.terminate(process, in_transaction=True)
        assert session is not None and session.process == "holder"
        await run.server.gone(session)
        await idle.execute("update account set cents = 2 where id = 1")  # its lock is free
        await process.ended()
        assert run.server.terminate("nobody") is None
        return run.result("holder")

    simulation = simulate()
    for seed in range(5):
        assert simulation.run(main, seed=seed).result == "57P01"


def test_a_session_that_waits_for_a_lock_can_be_terminated(simulate: Simulate) -> None:
    async def main(run: Run) -> Any:
        conn = await connect()
        await conn.execute("update account set cents = 1 where id = 1")
        waiting = run.process("waiting", holding, run, may_fail=True)
        await asyncio.sleep(0.1)
        session = run.server.terminate(waiting)
        assert session is not None
        await run.server.gone(session)
        end = await waiting.ended()
        assert isinstance(end.error, psycopg.errors.AdminShutdown)
        assert run.now < 0.2
        await conn.commit()
        return await cents(conn, 1)

    simulation = simulate()
    for seed in range(5):
        assert simulation.run(main, seed=seed).result == 1


def test_a_crash_loses_all_sessions_and_recovers_what_was_committed(simulate: Simulate) -> None:
    async def main(run: Run) -> Any:
        conn = await connect(autocommit=True)
        await conn.execute("update account set cents = 5 where id = 2")
        holder = run.process("holder", holding, run)
        await asyncio.sleep(1)
        assert run.server.crash(holder) is not None
        before = run.now
        insisting_ = run.process("insisting", insisting, run)
        await run.server.ready()
        assert 0.05 <= run.now - before <= 0.15
        with pytest.raises(psycopg.OperationalError):
            await conn.execute("select 1")
        await insisting_.ended()
        await holder.ended()
        async with await connect() as again:
            return (
                run.result("holder"),
                run.result("insisting")[1],
                await fetch(again, "select * from account order by id"),
            )

    simulation = simulate()
    hashes = []
    for seed in (1, 2, 1):
        outcome = simulation.run(main, seed=seed)
        held, seen, rows = outcome.result
        assert held in {"lost", "57P02"}
        assert "recovering" in seen
        assert rows == [(1, 100), (2, 5)]
        hashes.append(outcome.hash)
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize(("mode", "seen"), [("fast", {"57P01"}), ("immediate", {"57P01", "lost"})])
def test_a_server_that_is_stopped_refuses_connections_until_it_is_started(
    simulate: Simulate, mode: Any, seen: set[str]
) -> None:
    async def main(run: Run) -> Any:
        holder = run.process("holder", holding, run)
        await asyncio.sleep(1)
        run.server.stop(mode)
        insisting_ = run.process("insisting", insisting, run)
        await asyncio.sleep(2)
        assert insisting_.alive
        run.server.start()
        await run.server.ready()
        await insisting_.ended()
        await holder.ended()
        return run.result("holder"), run.result("insisting")

    simulation = simulate()
    outcome = simulation.run(main)
    held, (when, attempts) = outcome.result
    assert held in seen
    assert 3 < when < 3.5
    assert set(attempts) == {"refused", "recovering"}
    assert simulation.run(main).hash == outcome.hash


def test_a_run_that_ends_with_its_server_stopped_does_no_harm_to_the_next(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        async with await connect() as conn:
            assert await cents(conn, 1) == 100
        run.server.stop("immediate")

    simulation = simulate()
    for _ in range(2):
        simulation.run(main)


def test_a_server_that_stands_still_answers_nobody_and_then_everybody(simulate: Simulate) -> None:
    async def main(run: Run) -> Any:
        conn = await connect()
        await conn.execute("set lock_timeout = '1s'")
        await conn.commit()
        run.server.pause()
        task = asyncio.create_task(cents(conn, 1))
        connecting = asyncio.create_task(connect())
        await asyncio.sleep(30)
        assert not task.done() and not connecting.done()
        run.server.resume()
        assert await task == 100
        assert await cents(await connecting, 2) == 100
        return run.now

    assert simulate().run(main).result == pytest.approx(30, abs=0.1)


def test_nothing_of_a_server_that_stands_still_goes_on(simulate: Simulate) -> None:
    """Not a statement that is held inside, nor one whose lock has come, nor one whose time is up."""

    async def updating() -> None:
        async with await connect(autocommit=True) as conn:
            for _ in range(20):
                await conn.execute("update account set cents = cents + 1 where id = 1")

    async def main(run: Run) -> None:
        clients = [run.process(f"client-{n}", updating) for n in range(3)]
        await asyncio.sleep(run.choices.uniform("workload", 0.002, 0.01))
        run.server.pause()
        await asyncio.sleep(30)
        run.server.resume()
        for client in clients:
            await client.ended()
        async with await connect() as conn:
            assert await cents(conn, 1) == 160

    simulation = simulate(holds=2)
    for seed in range(10):
        entries = simulation.run(main, seed=seed, trace=True).entries
        (begun, ended) = (entry.at for entry in entries if entry.kind == "fault")
        during = [entry for entry in entries if begun < entry.at < ended and entry.kind in {"answer", "server"}]
        assert during == []


def test_timers_do_not_notice_that_the_servers_clock_was_set(simulate: Simulate) -> None:
    """PostgreSQL shows the new time at once; a lock_timeout, a pg_sleep and a client's own timer last as long as before."""

    async def main(run: Run) -> tuple[float, float, float]:
        conn, waiting, sleeping = await connect(), await connect(), await connect(autocommit=True)
        await conn.execute("update account set cents = 1 where id = 1")
        ((before,),) = await fetch(sleeping, "select extract(epoch from clock_timestamp())::float")
        await waiting.execute("set lock_timeout = '10s'")
        began = run.now
        slow = asyncio.create_task(sleeping.execute("select pg_sleep(3000)"))
        blocked = asyncio.create_task(waiting.execute("update account set cents = 2 where id = 1"))
        await asyncio.sleep(5)
        run.server.clock_jump(100)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await blocked
        waited = run.now - began
        await slow
        slept = run.now - began
        ((after,),) = await fetch(sleeping, "select extract(epoch from clock_timestamp())::float")
        return waited, slept, after - before - slept

    waited, slept, ahead = simulate(holds=0).run(main, seed=1).result
    assert waited == pytest.approx(10, abs=0.1)
    assert 2900 < slept < 3001
    assert ahead == pytest.approx(100, abs=0.1)


def test_the_servers_monotonic_clock_goes_on_as_if_nothing_had_been(simulate: Simulate) -> None:
    async def main(run: Run) -> float:
        conn = await connect(autocommit=True)
        slow = asyncio.create_task(fetch(conn, "explain (analyze, format json) select pg_sleep(50)"))
        await asyncio.sleep(5)
        run.server.clock_jump(1000)
        (((plan,),),) = await slow
        return float(plan["Execution Time"])

    assert simulate(holds=0).run(main, seed=1).result == pytest.approx(50_000, abs=100)
