"""Promise: every verb of the network does to clients and server what the fault catalogue says, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from sim_programs import Simulate, cents, connect, fetch

from duress.simulator import CommitPoint, NetworkSettings, Run, Stuck

Act = Callable[[Run], Awaitable[Any]]


async def lost(doing: Awaitable[Any]) -> psycopg.OperationalError:
    """What a client gets whose connection is lost: psycopg has no SQLSTATE to give then."""
    with pytest.raises(psycopg.OperationalError) as caught:
        await doing
    assert caught.value.sqlstate is None
    return caught.value


def test_a_partition_towards_the_server_holds_requests_and_heals_with_the_connection_alive(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        conn, other = await connect(), None
        await conn.execute("update account set cents = 1 where id = 1")
        run.network.partition("main", "to-server", duration=30)
        task = asyncio.create_task(conn.commit())
        await asyncio.sleep(20)
        assert not task.done()
        assert (await run.processes[0].ended()).how == "returned"
        assert run.result("witness") == (100, True)  # the session is open, with its locks
        await task
        assert 30 <= run.now < 30.01
        other = await connect()
        assert await cents(other, 1) == 1

    async def witness(run: Run) -> tuple[int, bool]:
        await asyncio.sleep(5)
        async with await connect() as conn:
            seen = await cents(conn, 1)
            try:
                await conn.execute("select from account where id = 1 for update nowait")
            except psycopg.errors.LockNotAvailable:
                return seen, True
            return seen, False

    simulate().run(main, processes={"witness": witness})


def test_what_is_on_its_way_when_a_partition_begins_arrives_after_it_and_in_order(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        conn = await connect(autocommit=True)
        run.network.slow("main", (5, 5))
        async with conn.pipeline():
            await conn.execute("update account set cents = cents * 2 where id = 1")
            await asyncio.sleep(3)
            await conn.execute("update account set cents = cents + 1 where id = 1")
            run.network.partition("main", "to-server", duration=3)  # the first would arrive in it, the second after it
        assert await cents(conn, 1) == 201

    simulate(holds=0).run(main)


def test_what_is_on_its_way_does_not_slip_through_a_partition(simulate: Simulate) -> None:
    async def main(run: Run) -> list[int]:
        conn = await connect(autocommit=True)
        run.network.slow("main", (5, 5))
        task = asyncio.create_task(conn.execute("update account set cents = 200 where id = 1"))
        await asyncio.sleep(3)
        run.network.partition("main", "to-server", duration=10)
        await task
        seen: list[int] = run.result("witness")
        return seen

    async def witness(run: Run) -> list[int]:
        seen = []
        async with await connect(autocommit=True) as conn:
            for _ in range(5):
                seen.append(await cents(conn, 1))
                await asyncio.sleep(4)
        return seen

    assert simulate(holds=0).run(main, processes={"witness": witness}).result == [100, 100, 100, 100, 100]


def test_a_partition_towards_the_worker_lets_requests_through_and_holds_replies(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        conn = await connect()
        await conn.execute("update account set cents = 1 where id = 1")
        run.network.partition("main", "to-worker")
        task = asyncio.create_task(conn.commit())
        await run.processes[0].ended()
        assert run.result("witness") == 1  # committed, and the client does not know
        assert not task.done()
        run.network.heal("main")
        await task

    async def witness(run: Run) -> int:
        await asyncio.sleep(5)
        async with await connect() as conn:
            return await cents(conn, 1)

    simulate().run(main, processes={"witness": witness})


def test_a_partitioned_process_cannot_connect_until_it_heals(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        run.network.partition("main")
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            await connect(connect_timeout=7)
        assert 7 <= run.now < 7.01
        task = asyncio.create_task(connect())
        await asyncio.sleep(1)
        run.network.heal("main")
        assert await fetch(await task, "select 1") == [(1,)]

    simulate().run(main)


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_dropped_connection_is_lost_for_both_sides(simulate: Simulate, how: Any) -> None:
    async def main(run: Run) -> None:
        conn, other = await connect(), await connect(autocommit=True)
        await conn.execute("update account set cents = 1 where id = 1")
        task = asyncio.create_task(conn.execute("select pg_sleep(10)"))
        await asyncio.sleep(1)
        run.network.drop(conn, how)
        await lost(task)
        assert conn.closed and run.now < 1.1
        # The server notices when it wants to answer, as on a real network; then the locks are free.
        await other.execute("update account set cents = cents + 1 where id = 1")
        assert 10 < run.now < 12
        assert await cents(other, 1) == 101

    simulate().run(main)


def test_refused_connections_are_refused_and_existing_ones_go_on(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        conn = await connect()
        run.network.refuse("main", duration=10)
        error = await lost(connect())
        assert "Connection refused" in str(error)
        assert await fetch(conn, "select 1") == [(1,)]
        await asyncio.sleep(11)
        assert await fetch(await connect(), "select 1") == [(1,)]

    simulate().run(main)


@pytest.mark.parametrize(
    ("point", "applied"),
    [
        ("before-forward", False),
        ("forwarded", True),
        ("applied-reply-held", True),
        ("mid-CommandComplete", True),
        ("before-ReadyForQuery", True),
    ],
)
def test_a_cut_commit_looks_the_same_to_the_client_wherever_it_is_cut(
    simulate: Simulate, point: CommitPoint, applied: bool
) -> None:
    async def main(run: Run) -> tuple[int, int]:
        conn = await connect()
        run.network.cut_commit("main", point, 2)
        for amount in (1, 2):
            await conn.execute("update account set cents = %s where id = %s", (amount, amount))
            await (conn.commit() if amount == 1 else lost(conn.commit()))
        await asyncio.sleep(1)
        other = await connect()
        return await cents(other, 1), await cents(other, 2)

    assert simulate().run(main).result == (1, 2 if applied else 100)


def test_a_lost_reply_of_any_exchange_was_applied(simulate: Simulate) -> None:
    async def main(run: Run) -> int:
        conn, other = await connect(autocommit=True), await connect(autocommit=True)
        await fetch(conn, "select 1")
        run.network.lose_reply("main")
        await lost(conn.execute("update account set cents = 7 where id = 1"))
        return await cents(other, 1)

    assert simulate().run(main).result == 7


def test_lost_notifications_are_lost_and_the_connection_is_not(simulate: Simulate) -> None:
    async def main(run: Run) -> list[str]:
        conn, other = await connect(autocommit=True), await connect(autocommit=True)
        await conn.execute("listen news")
        run.network.lose_notifications("main", 1)
        for n in range(2):
            await other.execute("select pg_notify('news', %s)", (str(n),))
            await asyncio.sleep(1)
        return [notice.payload async for notice in conn.notifies(timeout=1)]

    assert simulate().run(main).result == ["1"]


def test_a_slow_link_is_slow_for_its_time(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        conn = await connect(autocommit=True)
        run.network.slow("main", (3, 3), duration=60)
        before = run.now
        await conn.execute("select 1")
        assert run.now - before == pytest.approx(6, abs=0.01)
        await asyncio.sleep(60)
        before = run.now
        await conn.execute("select 1")
        assert run.now - before < 0.01

    simulate().run(main)


def test_a_client_with_a_timeout_gives_up_and_without_one_hangs(simulate: Simulate) -> None:
    async def main(run: Run) -> float:
        conn = await connect(autocommit=True)
        run.network.partition("main")
        before = run.now
        await lost(conn.execute("select 1"))
        return run.now - before

    assert simulate(network=NetworkSettings(client_timeout=15)).run(main).result == pytest.approx(15)
    with pytest.raises(Stuck) as caught:
        simulate().run(main)
    assert "main" in str(caught.value)


def test_a_server_with_a_timeout_gives_a_silent_client_up(simulate: Simulate) -> None:
    async def main(run: Run) -> float:
        await run.processes[0].ended()
        return float(run.result("witness"))

    async def holder(run: Run) -> None:
        conn = await connect()
        await conn.execute("update account set cents = 1 where id = 1")
        run.network.partition("holder")
        await conn.commit()

    async def witness(run: Run) -> float:
        await asyncio.sleep(1)
        async with await connect() as conn:
            await conn.execute("update account set cents = cents + 1 where id = 1")
            assert await cents(conn, 1) == 101
        return run.now

    processes = {"witness": witness, "holder": holder}
    simulation = simulate(network=NetworkSettings(server_timeout=40))
    assert simulation.run(main, processes=processes).result == pytest.approx(40, abs=0.1)
    with pytest.raises(Stuck) as caught:
        simulate().run(main, processes=processes)
    assert "waits for lock transactionid held by session" in str(caught.value)
