"""Promise: a killed process stops where it is, its sessions end as the kernel would end them; a lost machine's stay."""

import asyncio
from typing import Any

import psycopg
import pytest
from sim_programs import Simulate, cents, connect, fetch

from duress.simulator import NetworkSettings, Run, Stuck


def test_a_kill_runs_no_finally_and_releases_what_the_sessions_held(simulate: Simulate) -> None:
    ran: list[str] = []

    async def victim(run: Run) -> None:
        try:
            async with await connect() as conn, conn.transaction():
                await conn.execute("update account set cents = 1 where id = 1")
                ran.append("locked")
                await conn.execute("select pg_sleep(3)")
                await asyncio.sleep(100)
        except BaseException:  # noqa: BLE001
            ran.append("except")
        finally:
            ran.append("finally")

    async def main(run: Run) -> int:
        process = run.process("victim", victim, run)
        await asyncio.sleep(10)
        process.kill()
        async with await connect(autocommit=True) as conn:
            await conn.execute("update account set cents = cents + 1 where id = 1")
            assert run.now < 10.1
            await asyncio.sleep(200)
            return await cents(conn, 1)

    simulation = simulate()
    for seed in range(5):
        ran.clear()
        assert simulation.run(main, seed=seed).result == 101
        assert ran == ["locked"]


def test_a_statement_that_was_sent_runs_though_its_client_was_killed(simulate: Simulate) -> None:
    async def victim(run: Run) -> None:
        conn = await connect(autocommit=True)
        run.victim = asyncio.current_task()  # type: ignore[attr-defined]
        await conn.execute("update account set cents = 1 where id = 1")
        await asyncio.sleep(100)

    async def main(run: Run) -> tuple[int, int]:
        process = run.process("victim", victim, run)
        while not run.sessions.counts.exchanges:
            await asyncio.sleep(0.0001)
            if any("update" in entry.text for entry in run.loop.record.entries):
                process.kill()
                break
        await asyncio.sleep(1)
        async with await connect() as conn:
            return await cents(conn, 1), run.sessions.counts.exchanges

    simulation = simulate()
    found = {simulation.run(main, seed=seed, trace=True).result[0] for seed in range(10)}
    assert found == {1}


def test_an_orphan_that_waits_for_a_lock_may_still_commit(simulate: Simulate) -> None:
    async def victim(run: Run) -> None:
        async with await connect(autocommit=True) as conn:
            await conn.execute("update account set cents = cents + 1000 where id = 1")

    async def main(run: Run) -> Any:
        async with await connect() as conn:
            await conn.execute("update account set cents = 1 where id = 1")
            process = run.process("victim", victim, run)
            await asyncio.sleep(1)
            process.kill()
            await asyncio.sleep(1)
            await conn.commit()
            await asyncio.sleep(1)
            return await cents(conn, 1)

    outcome = simulate().run(main)
    assert outcome.result == 1001
    assert outcome.counts.orphans == 1


def test_the_sessions_of_a_machine_that_is_cut_off_keep_their_locks_until_the_server_gives_up(
    simulate: Simulate,
) -> None:
    async def victim() -> None:
        conn = await connect()
        await conn.execute("update account set cents = 1 where id = 1")
        await asyncio.sleep(1000)

    async def main(run: Run) -> float:
        process = run.process("victim", victim)
        await asyncio.sleep(10)
        process.cut_off()
        async with await connect(autocommit=True) as conn:
            await conn.execute("update account set cents = cents + 1 where id = 1")
            assert await cents(conn, 1) == 101
        return run.now

    assert simulate(network=NetworkSettings(server_timeout=60)).run(main).result == pytest.approx(70, abs=0.1)
    with pytest.raises(Stuck, match=r"session 1 \(victim, its client is gone\)|held by session"):
        simulate().run(main)


def test_a_process_that_restarts_connects_anew_and_a_paused_one_holds_its_locks(simulate: Simulate) -> None:
    async def worker(run: Run) -> None:
        async with await connect() as conn:
            await conn.execute("update account set cents = cents + 1 where id = 1")
            await asyncio.sleep(5)

    async def main(run: Run) -> int:
        process = run.process("worker", worker, run)
        await asyncio.sleep(2)
        process.restart()
        await asyncio.sleep(2)
        process.pause()
        async with await connect(autocommit=True) as conn:
            await conn.execute("set lock_timeout = '20s'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await conn.execute("update account set cents = 0 where id = 1")
            process.resume()
            await process.ended()
            await asyncio.sleep(1)
            return await cents(conn, 1)

    assert simulate().run(main).result == 101


def test_a_process_that_dies_in_a_partition_is_missed_only_after_it(simulate: Simulate) -> None:
    async def victim() -> None:
        conn = await connect()
        await conn.execute("update account set cents = 1 where id = 1")
        await asyncio.sleep(1000)

    async def main(run: Run) -> float:
        process = run.process("victim", victim)
        await asyncio.sleep(1)
        run.network.partition(process, duration=30)
        process.kill()
        async with await connect(autocommit=True) as conn:
            await conn.execute("update account set cents = cents + 1 where id = 1")
            assert await cents(conn, 1) == 101
        return run.now

    assert simulate().run(main).result == pytest.approx(31, abs=0.1)


def test_hundreds_of_killed_connections_leave_no_descriptors(simulate: Simulate) -> None:
    import os

    async def victim() -> None:
        conns = [await connect() for _ in range(10)]
        await asyncio.sleep(1000)
        assert conns

    async def main(run: Run) -> list[Any]:
        for n in range(3):
            process = run.process(f"victim {n}", victim)
            await asyncio.sleep(1)
            process.kill()
        async with await connect() as conn:
            return await fetch(conn, "select 1")

    simulation = simulate()
    simulation.run(main)
    before = len(os.listdir("/proc/self/fd"))
    for seed in range(5):
        simulation.run(main, seed=seed)
    assert len(os.listdir("/proc/self/fd")) <= before + 5
