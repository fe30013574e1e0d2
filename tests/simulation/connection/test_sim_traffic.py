"""Promise: the network counts what happens to a process's connections where it happens, and nothing that does not."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sim_programs import Simulate, cents, connect

from duress.scenarios.sim.faults.watch import TrafficWatch
from duress.simulator import CommitPoint, Run


async def busy(conn: psycopg.AsyncConnection[Any]) -> None:
    """All that an undisturbed program does: statements, errors of its own, commits, notifications."""
    async with conn.transaction():
        await conn.execute("update account set cents = cents + 1 where id = 1")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await conn.execute("select 1 / 0")
    await conn.execute("listen news")
    await conn.execute("notify news")
    assert [note.channel async for note in conn.notifies(timeout=1, stop_after=1)] == ["news"]


def says(watch: TrafficWatch) -> dict[str, str | None]:
    looks: dict[str, Callable[[], str | None]] = {
        "lost": watch.lost,
        "refused": watch.refused,
        "withheld": watch.withheld,
        "late": watch.late,
        "deaf": watch.deaf,
        "57014": lambda: watch.error("57014", "40001"),
        **{point: (lambda at=point: watch.cut(at)) for point in CommitPoint.__args__},  # type: ignore[attr-defined, misc]
    }
    return {name: said for name, look in looks.items() if (said := look()) is not None}


def test_without_a_fault_nothing_is_seen(simulate: Simulate) -> None:
    async def main(run: Run) -> dict[str, str | None]:
        watch = TrafficWatch(run, "main")
        async with await connect(autocommit=True) as conn:
            await busy(conn)
        async with await connect(autocommit=True) as conn:
            await busy(conn)
        return says(watch)

    simulation = simulate()
    for seed in range(5):
        assert simulation.run(main, seed=seed).result == {}


def drop(run: Run) -> None:
    run.network.drop("main", "fin")


def refuse(run: Run) -> None:
    run.network.refuse("main", duration=0.5)
    run.network.drop("main")


def partition(run: Run) -> None:
    run.network.partition("main", "to-worker", duration=0.5)


def slow(run: Run) -> None:
    run.network.slow("main", (0.1, 0.2), duration=0.5)


def narrow(run: Run) -> None:
    run.network.slow("main", (0.0, 0.0), duration=0.5, bandwidth=1000)


def deafen(run: Run) -> None:
    run.network.deafen("main")


def cut(run: Run) -> None:
    run.network.cut_commit("main", "forwarded")


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (drop, {"lost"}),
        (refuse, {"lost", "refused"}),
        (partition, {"withheld"}),
        (slow, {"late"}),
        (narrow, {"late"}),
        (deafen, {"deaf"}),
        (cut, {"forwarded", "lost"}),
    ],
)
def test_each_fault_is_seen_once_it_has_happened_and_forgotten_by_the_next_watch(
    simulate: Simulate, act: Callable[[Run], None], seen: set[str]
) -> None:
    async def main(run: Run) -> tuple[set[str], dict[str, str | None]]:
        watch = TrafficWatch(run, "main")
        conn = await connect(autocommit=True)
        act(run)
        with contextlib.suppress(psycopg.OperationalError, AssertionError):
            await busy(conn)
        with contextlib.suppress(psycopg.OperationalError):
            await connect()
        found = set(says(watch))
        return found, says(TrafficWatch(run, "main"))

    assert simulate(holds=0).run(main, seed=1).result == (seen, {})


def test_errors_are_seen_when_they_have_reached_the_process(simulate: Simulate) -> None:
    async def main(run: Run) -> list[bool]:
        conn = await connect(autocommit=True)
        watch = TrafficWatch(run, "main")
        run.network.slow("main", (1, 1))
        task = asyncio.create_task(conn.execute("select 1 / 0"))
        await asyncio.sleep(1.5)  # the server has answered, and the answer is on its way
        before = watch.error("22012") is not None
        with pytest.raises(psycopg.errors.DivisionByZero):
            await task
        return [before, watch.error("22012") is not None, watch.error("57014") is not None]

    assert simulate(holds=0).run(main).result == [False, True, False]


def test_a_narrow_link_lets_so_many_bytes_a_second_pass(simulate: Simulate) -> None:
    async def main(run: Run) -> tuple[float, float]:
        conn = await connect(autocommit=True)
        run.network.slow("main", (0, 0), bandwidth=1000)
        began = run.now
        await conn.execute("select repeat('x', 10000)")
        narrow = run.now - began
        run.network.quicken("main")
        began = run.now
        await conn.execute("select repeat('x', 10000)")
        return narrow, run.now - began

    narrow, wide = simulate(holds=0).run(main).result
    assert 10 < narrow < 10.3
    assert wide < 0.01


def test_a_cut_that_is_spared_does_not_come(simulate: Simulate) -> None:
    async def main(run: Run) -> int:
        cut = run.network.cut_commit("main", "before-forward")
        run.network.spare("main", cut)
        async with await connect() as conn:
            await conn.execute("update account set cents = 7 where id = 1")
        async with await connect() as conn:
            return await cents(conn, 1)

    assert simulate().run(main).result == 7
