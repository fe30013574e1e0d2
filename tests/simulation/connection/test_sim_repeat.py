"""Promise: a seed is one run, whatever happens in it; what is decided outside of the simulation is found and shown."""

import asyncio
import os
import random
import subprocess
import sys
import time
import uuid
from typing import Any

import psycopg
import psycopg_pool
import pytest
from sim_programs import Simulate, cents, connect, fetch

from duress.simulator import DSN, Diverged, NetworkSettings, Run, Simulation, SimulationError
from duress.simulator import run as simulate_once
from duress.simulator.server.settings import MAX_CONNECTIONS

SETUP = """
create table account (id int primary key, cents int not null check (cents >= 0));
create table ledger (id bigint generated always as identity primary key, account int references account, note uuid);
create function move(source int, target int, amount int) returns void language plpgsql as $$
begin
    update account set cents = cents - amount where id = source;
    insert into ledger (account, note) values (target, gen_random_uuid());
    update account set cents = cents + amount where id = target;
    perform pg_notify('moved', source::text);
end $$;
"""
DATA = "insert into account select n, 1000 from generate_series(1, 4) n"


@pytest.fixture(autouse=True)
def fixed_hash_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both runs of these tests are made in one process, where sets have one order anyway."""
    monkeypatch.setenv("PYTHONHASHSEED", "0")


async def transferring(run: Run) -> int:
    """A worker with a pool: transactions in random order, which wait for each other, deadlock, and are retried."""
    done = 0
    async with psycopg_pool.AsyncConnectionPool(DSN, min_size=1, max_size=2, open=False) as pool:
        for _ in range(5):
            source, target = random.sample(range(1, 5), 2)
            try:
                async with pool.connection() as conn:
                    if random.random() < 0.3:
                        await conn.execute("set transaction isolation level serializable")
                    await conn.execute("select move(%s, %s, %s)", (source, target, random.randint(1, 300)))
                    await asyncio.sleep(random.random() / 100)
                done += 1
            except (
                psycopg.errors.DeadlockDetected,
                psycopg.errors.SerializationFailure,
                psycopg.errors.CheckViolation,
            ):
                pass
            except psycopg.OperationalError:
                pass
    return done


async def listening(run: Run) -> None:
    async with await connect(autocommit=True) as conn:
        await conn.execute("listen moved")
        async for _ in conn.notifies(timeout=60):
            pass


async def troubled(run: Run) -> list[Any]:
    """Four workers on one database, of which some are killed, dropped, partitioned; and a listener."""
    workers = [run.process(f"worker-{n}", transferring, run, may_fail=True) for n in range(4)]
    listener = run.process("listener", listening, run)
    for _ in range(4):
        await asyncio.sleep(run.choices.uniform("faults", 0.001, 0.02))
        victim = workers[run.choices.draw("faults", 4)]
        match run.choices.draw("faults", 4):
            case 0:
                victim.restart()
            case 1:
                run.network.drop(victim, "rst")
            case 2:
                run.network.partition(victim, duration=0.5)
            case _:
                run.network.lose_reply(victim, commit=1)
    for worker in workers:
        await worker.ended()
    listener.kill()
    async with await connect() as conn:
        ((total,),) = await fetch(conn, "select sum(cents) from account")
        assert total == 4000
        return await fetch(conn, "select account, note::text from ledger order by id")


def test_a_seed_is_one_run_in_kept_and_fresh_databases(simulate: Simulate) -> None:
    simulation = simulate(SETUP, DATA)
    first = [simulation.run(troubled, seed=seed) for seed in range(8)]
    again = [simulation.run(troubled, seed=seed, fresh=seed % 2 == 0) for seed in range(8)]
    assert [outcome.hash for outcome in first] == [outcome.hash for outcome in again]
    assert [outcome.result for outcome in first] == [outcome.result for outcome in again]
    assert len({outcome.hash for outcome in first}) == 8
    counts = [outcome.counts for outcome in first]
    assert sum(count.lock_waits for count in counts) > 20
    assert sum(count.holds for count in counts) > 10
    assert sum(count.orphans for count in counts) > 0


@pytest.mark.parametrize("scheduler", ["fifo", "pct", "pos"])
def test_so_it_is_under_other_schedulers_and_from_whole_tokens(simulate: Simulate, scheduler: str) -> None:
    simulation = simulate(SETUP, DATA, scheduler=scheduler)
    for seed in range(2):
        outcome = simulation.check_twice(troubled, seed=seed)
        assert simulation.run(troubled, token=outcome.token).hash == outcome.hash


@pytest.mark.parametrize("keep", [True, False])
def test_a_session_that_ends_leaves_nothing_to_others_nor_to_the_next_run(simulate: Simulate, keep: bool) -> None:
    async def main(run: Run) -> None:
        conn = await connect(autocommit=True, application_name="mine")
        assert await fetch(
            conn, "select to_regclass('mess'), current_setting('work_mem'), pg_my_temp_schema()::int"
        ) == [(None, "4MB", 0)]
        assert await fetch(conn, "show application_name") == [("mine",)]
        await conn.execute("set work_mem = '1MB'")
        await conn.execute("create temp table mess (id int)")
        await conn.execute("select pg_advisory_lock(7)")
        await conn.execute("prepare mess as select 1")
        await conn.execute("listen mess")
        if run.choices.draw("workload", 2):
            await conn.execute("begin; update account set cents = 0 where id = 1")
        await conn.close()
        await asyncio.sleep(1)
        async with await connect(autocommit=True) as other:
            assert await fetch(other, "select pg_try_advisory_lock(7)") == [(True,)]
            assert await fetch(other, "select count(*) from pg_stat_activity where application_name = 'mine'") == [(0,)]
            await other.execute("update account set cents = cents + 1 where id = 1")
            assert await cents(other, 1) == 101

    simulation = simulate(keep=keep)
    for seed in range(6):
        simulation.run(main, seed=seed)


def test_sessions_that_are_kept_do_not_use_up_the_servers_connections(simulate: Simulate) -> None:
    async def main() -> None:
        for n in range(130):
            async with await connect(application_name=f"client {n}") as conn:
                await conn.execute("select 1")
        conns = [await connect(application_name=f"another {n}") for n in range(90)]
        assert await fetch(
            conns[-1], "select count(*) from pg_stat_activity where application_name like 'another %%'"
        ) == [(90,)]
        with pytest.raises(psycopg.OperationalError, match=r"too many clients|reserved for"):
            conns += [await connect() for _ in range(MAX_CONNECTIONS)]

    simulation = simulate()
    for _ in range(2):
        simulation.run(main)


def test_a_kept_session_that_somebody_has_ended_is_not_used_again(simulate: Simulate) -> None:
    async def main() -> None:
        async with await connect(autocommit=True) as conn:
            await conn.execute("select 1")
        async with await connect(autocommit=True, application_name="another") as conn:
            ended = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sim:resting'"
            assert (True,) in await fetch(conn, ended)
            await asyncio.sleep(1)

    simulation = simulate()
    for _ in range(3):
        simulation.run(main)


def test_a_run_that_changes_the_schema_does_not_change_it_for_the_next(simulate: Simulate) -> None:
    async def main() -> None:
        async with await connect(autocommit=True) as conn:
            await conn.execute("create table mess (id int)")
            await conn.execute("alter table account add check (cents < 1000)")

    simulation = simulate()
    for _ in range(3):
        simulation.run(main)


def test_another_process_runs_the_same_seed_the_same_way(simulate: Simulate) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_sim_repeat import DATA, SETUP, troubled\n"
        "from duress.simulator import Simulation\n"
        "with Simulation(SETUP, data=DATA) as simulation: print(simulation.run(troubled, seed=3).hash)\n"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program, os.path.dirname(__file__)],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    }
    assert len(hashes) == 1 and all(hashes)


def test_a_deadlock_is_postgresqls_own_and_either_side_may_be_its_victim(simulate: Simulate) -> None:
    async def moving(run: Run, name: str, first: int, second: int) -> None:
        async with await connect() as conn:
            await conn.execute("update account set cents = cents - 1 where id = %s", (first,))
            await asyncio.sleep(1 - run.now)  # so that both begin to wait, and their timers come, at one time
            try:
                await conn.execute("update account set cents = cents + 1 where id = %s", (second,))
            except psycopg.errors.DeadlockDetected:
                run.victims.append(name)  # type: ignore[attr-defined]

    async def main(run: Run) -> list[str]:
        run.victims = []  # type: ignore[attr-defined]
        processes = [run.process(name, moving, run, name, *way) for name, way in (("a", (1, 2)), ("b", (2, 1)))]
        for process in processes:
            await process.ended()
        assert 2 <= run.now < 2.1  # deadlock_timeout is 1 s
        victims: list[str] = run.victims  # type: ignore[attr-defined]
        return victims

    network = NetworkSettings(latency=(0.001, 0.001))
    simulation = simulate(network=network, holds=0)
    victims = [simulation.run(main, seed=seed).result for seed in range(12)]
    assert {tuple(found) for found in victims} == {("a",), ("b",)}


def test_sessions_woken_at_one_time_go_on_in_any_order(simulate: Simulate) -> None:
    async def waiting(run: Run, name: str) -> None:
        async with await connect(autocommit=True) as conn:
            await conn.execute("select from account where id = 1 for share")
            run.order.append(name)  # type: ignore[attr-defined]

    async def main(run: Run) -> tuple[str, ...]:
        run.order = []  # type: ignore[attr-defined]
        async with await connect() as conn:
            await conn.execute("update account set cents = 0 where id = 1")
            processes = [run.process(name, waiting, run, name) for name in "abc"]
            await asyncio.sleep(1)
        for process in processes:
            await process.ended()
        return tuple(run.order)  # type: ignore[attr-defined]

    simulation = simulate(network=NetworkSettings(latency=(0.001, 0.001)), holds=0)
    assert len({simulation.run(main, seed=seed).result for seed in range(25)}) > 3


LEAKS = {
    "transaction id": "select pg_current_xact_id()::text",
    "process id in a text": "select 'at ' || pg_backend_pid()",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_what_the_server_leaks_is_shown_at_its_first_entry(simulate: Simulate, leak: str) -> None:
    async def main() -> None:
        async with await connect() as conn:
            await fetch(conn, "select 1")
            await fetch(conn, LEAKS[leak])

    with pytest.raises(Diverged) as caught:
        simulate().check_twice(main)
    assert caught.value.difference is not None
    assert caught.value.difference.first is not None
    assert caught.value.difference.first.kind == "answer"
    assert "d1." in str(caught.value) and "1st" in str(caught.value)


def test_what_python_leaks_is_shown(simulate: Simulate) -> None:
    class Item:
        pass

    async def addresses() -> None:
        items = [Item() for _ in range(20)]
        order = [items.index(item) for item in set(items)]
        async with await connect(autocommit=True) as conn:
            for n in order:
                await conn.execute("select %s::int", (n,))

    async def state(seen: list[int] = []) -> None:  # noqa: B006
        seen.append(1)
        await asyncio.sleep(len(seen))

    simulation = simulate()
    for leaking in (addresses, state):
        with pytest.raises(Diverged):  # noqa: PT012
            for seed in range(20):
                simulation.check_twice(leaking, seed=seed)


def test_what_would_leak_elsewhere_is_virtual(simulate: Simulate) -> None:
    async def main() -> Any:
        words = list({"one", "two", "three", "four", "five"})
        async with await connect(autocommit=True) as conn:
            rows = await fetch(conn, "select id, cents, ctid::text from account limit 1")
            drawn = await fetch(conn, "select random(), gen_random_uuid()::text, now()::text, clock_timestamp()::text")
            ((pid,),) = await fetch(conn, "select pg_backend_pid()")
            assert pid == conn.info.backend_pid
        return words, rows, drawn, str(uuid.uuid4()), time.time(), random.random(), os.urandom(4)

    simulation = simulate()
    for seed in range(3):
        simulation.check_twice(main, seed=seed)


def test_without_a_fixed_hash_seed_a_check_is_refused(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        pass

    monkeypatch.setenv("PYTHONHASHSEED", "random")
    with pytest.raises(SimulationError, match="PYTHONHASHSEED=0"):
        simulate().check_twice(main)
    simulate().run(main)


def test_a_program_can_start_itself_anew_with_a_fixed_hash_seed() -> None:
    program = (
        "from duress.simulator import ensure_fixed_hash_seed, has_fixed_hash_seed\n"
        "ensure_fixed_hash_seed()\n"
        "import sys; print(has_fixed_hash_seed(), sys.argv[1:], list({'one', 'two', 'three', 'four'}))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    said = {
        subprocess.run(
            [sys.executable, "-c", program, "an argument"], env=environment, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(4)
    }
    assert len(said) == 1 and said.pop().startswith("True ['an argument']")


def test_one_run_needs_no_preparation() -> None:
    async def main(run: Run) -> Any:
        async with await connect() as conn:
            return await fetch(conn, "select v from t")

    outcome = simulate_once(main, seed=3, setup="create table t (v int); insert into t values (1)", trace=True)
    assert outcome.result == [(1,)]
    assert outcome.entries and outcome.token in str(outcome)


def test_a_failure_comes_with_its_token_and_the_token_fails_in_the_same_way(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        async with await connect() as conn:
            assert await cents(conn, 1) == 100
            assert run.choices.draw("workload", 5) != 3

    simulation: Simulation = simulate()
    failure = simulation.find(main, range(100))
    assert failure is not None and failure.tried == failure.seed + 1
    assert failure.token in failure.error.__notes__[0]
    with pytest.raises(AssertionError) as caught:
        simulation.run(main, token=failure.token)
    assert caught.value.__notes__ == failure.error.__notes__


SHOWN = "select application_name, (select reset_val || source from pg_settings where name = 'application_name')"


def test_a_kept_session_serves_a_client_of_another_name_as_if_that_had_opened_it(simulate: Simulate) -> None:
    async def names(name: str) -> tuple[int, list[Any]]:
        async with await connect(application_name=name, autocommit=True) as conn:
            shown = [conn.info.parameter_status("application_name")]
            for ask in ("select 1", "set application_name = 'another'", "reset all", "discard all"):
                await conn.execute(ask.encode())
                shown += await fetch(conn, f"{SHOWN} from pg_stat_activity where pid = pg_backend_pid()")
                shown.append(conn.info.parameter_status("application_name"))
            return (await fetch(conn, "select pg_backend_pid()"))[0][0], shown

    def asking(name: str) -> Any:
        return lambda run: names(name)

    kept, fresh = simulate(), simulate(keep=False)
    runs = [kept.run(asking(name), seed=1).result for name in ("first", "second", "first")]
    assert len({pid for pid, _ in runs}) == 1, "the session was not kept"
    assert runs[1][1] == fresh.run(asking("second"), seed=1).result[1]
    assert runs[2][1] == runs[0][1] == fresh.run(asking("first"), seed=1).result[1]
    for odd in ("é", "x" * 70, ""):  # PostgreSQL makes something else of these
        assert kept.run(asking(odd), seed=1).result[1] == fresh.run(asking(odd), seed=1).result[1]


def test_strangers_that_are_kept_are_in_nobodys_way(simulate: Simulate) -> None:
    async def taken(run: Run) -> None:
        run.server.take_connections()
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            await connect()
        run.server.give_back()

    async def many(run: Run) -> int:
        connections = [await connect() for _ in range(MAX_CONNECTIONS - 20)]
        return len(connections)

    simulation, other = simulate(), simulate()
    hashes = set()
    for _ in range(2):
        hashes.add(simulation.run(taken, seed=1).hash)
        assert simulation.run(many, seed=1).result == other.run(many, seed=1).result == MAX_CONNECTIONS - 20
    assert len(hashes) == 1
