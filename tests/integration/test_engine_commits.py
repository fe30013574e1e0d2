"""A COMMIT whose answer is lost is resolved by what the database says, and its effects happen exactly once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engine_room import Sql, Watch, opened, session, until, working
from wire import Wire, wired

from duress.engine import Engine, Retry, step, transaction, workflow
from duress.engine.errors import StepFailed

attempts: list[int] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    attempts.clear()


@transaction(retry=Retry(attempts=1))
async def enter(tx: Any, only_once: bool) -> int:
    attempts.append(1)
    if only_once and len(attempts) > 1:
        raise ValueError("the second time it fails by its own doing")
    await tx.execute("insert into ledger values ('entry')")
    return len(attempts)


@step
async def compensate() -> int:
    return -1


@workflow(name="commits: enter")
async def enters(only_once: bool) -> int:
    try:
        return await enter(only_once)
    except StepFailed:
        return await compensate()


class Scene:
    """A worker behind a wire, a client and an operator that are not, and a COMMIT that can be held in the server."""

    def __init__(self, wire: Wire, watch: Watch, client: Engine, sql: Sql) -> None:
        self.wire = wire
        self.watch = watch
        self.client = client
        self.sql = sql

    async def entries(self) -> int:
        return int(await self.sql.one("select count(*) from ledger"))


@asynccontextmanager
async def scene(database: str) -> AsyncIterator[Scene]:
    watch = Watch()
    async with (
        wired(database) as wire,
        opened(database) as client,
        session(database) as sql,
        Engine(wire.dsn, observer=watch) as engine,
    ):
        await sql.conn.execute(b"""
            create table ledger (entry text);
            create function hold() returns trigger language plpgsql as $$
            begin
                perform pg_advisory_xact_lock(1);
                return null;
            end $$;
            create constraint trigger hold after insert on ledger deferrable initially deferred
            for each row execute function hold()""")
        async with working(engine, lease=20.0):
            await (await client.start("warm", plains)).result(timeout=9)  # all connections are made
            await sql.until("select count(*) from duress.live", is_=0)
            attempts.clear()
            watch.points.clear()
            yield Scene(wire, watch, client, sql)


COMMITTING = "select count(*) from pg_stat_activity where query = 'commit' and wait_event_type = 'Lock'"


def test_a_commit_whose_answer_is_lost_is_not_done_again(database: str) -> None:
    async def run() -> None:
        async with scene(database) as at:
            hold = at.watch.hold("step.committing")
            handle = await at.client.start("one", enters, False)
            await hold.wait()
            at.wire.muted = True
            hold.release()
            await at.sql.until("select count(*) from ledger", is_=1)
            at.wire.muted = False
            at.wire.cut()
            assert await handle.result(timeout=9) == 1
            assert at.watch.all("step.resolved") and at.watch.all("step.resolved")[0]["present"] is True
            assert len(attempts) == 1
            assert await at.entries() == 1

    asyncio.run(run())


@pytest.mark.parametrize("ending", ["pg_terminate_backend", "cut"])
def test_a_commit_that_never_came_is_done_again(database: str, ending: str) -> None:
    async def run() -> None:
        async with scene(database) as at:
            hold = at.watch.hold("step.committing")
            handle = await at.client.start("one", enters, False)
            await hold.wait()
            if ending == "cut":
                at.wire.cut()
            else:
                victim = (
                    "select pg_terminate_backend(pid, 9000) from pg_stat_activity where state = 'idle in transaction'"
                )
                assert await at.sql.all(victim) == [(True,)]
            hold.release()
            assert await handle.result(timeout=9) == 2
            assert [fact["present"] for fact in at.watch.all("step.resolved")] == [False]
            assert (await at.client.show("one")).summary.epoch == 1  # found out at once, not by a later write
            assert await at.entries() == 1

    asyncio.run(run())


@pytest.mark.parametrize("then", ["runs again", "fails"])
def test_a_commit_that_comes_after_it_was_given_up_is_found(database: str, then: str) -> None:
    """The answer "nothing is there" may be true only for now: the primary key of the checkpoint decides."""

    async def run() -> None:
        async with scene(database) as at, session(database) as holder:
            await holder.one("select pg_advisory_lock(1)")
            handle = await at.client.start("one", enters, then == "fails")
            await at.sql.until(COMMITTING, is_=1)
            at.wire.cut(server_learns=False)
            await at.watch.seen("step.resolved", present=False)
            await until(lambda: len(attempts) == 2)
            # The second try stands before the checkpoint that the first one has written and not yet committed.
            await at.sql.until(
                "select count(*) from pg_stat_activity where query ilike '%%checkpoint_v1%%' and wait_event_type = 'Lock'",
                is_=1,
            )
            await holder.one("select pg_advisory_unlock(1)")
            assert await handle.result(timeout=9) == 1
            assert await at.entries() == 1
            assert await at.sql.all("select step, failed, value::text from duress.checkpoint where number = 2") == [
                ("1", False, "1")
            ]

    asyncio.run(run())


def test_a_deferred_failure_at_commit_is_the_steps_own(database: str) -> None:
    async def run() -> None:
        async with scene(database) as at:
            await at.sql.conn.execute(b"""
                create or replace function hold() returns trigger language plpgsql as $$
                begin raise check_violation; end $$""")
            handle = await at.client.start("one", enters, False)
            assert await handle.result(timeout=9) == -1
            assert len(attempts) == 1

    asyncio.run(run())


def test_a_lost_race_found_at_commit_is_no_failure(database: str) -> None:
    async def run() -> None:
        async with scene(database) as at:
            await at.sql.conn.execute(b"""
                create sequence tries;
                create or replace function hold() returns trigger language plpgsql as $$
                begin
                    if nextval('tries') = 1 then raise serialization_failure; end if;
                    return null;
                end $$""")
            handle = await at.client.start("one", enters, False)
            assert await handle.result(timeout=9) == 2
            assert await at.entries() == 1

    asyncio.run(run())


def test_a_cancelled_checkpoint_of_a_transaction_is_no_failure(database: str) -> None:
    """What an operator cancels there is the engine's statement, not the step's."""

    async def run() -> None:
        async with scene(database) as at, session(database) as locker:
            hold = at.watch.hold("step.ended")
            handle = await at.client.start("one", enters, False)
            await hold.wait()
            async with locker.conn.transaction():
                await locker.all("select 1 from duress.live for update")
                hold.release()
                waiting = (
                    "from pg_stat_activity where query ilike '%%checkpoint_v1%%' and wait_event_type = 'Lock'"
                    " and pid <> pg_backend_pid()"
                )
                await at.sql.until(f"select count(*) {waiting}", is_=1)
                assert await at.sql.all(f"select pg_cancel_backend(pid) {waiting}") == [(True,)]
                await until(lambda: len(attempts) == 2)
            assert await handle.result(timeout=9) == 2
            assert await at.entries() == 1

    asyncio.run(run())


@step
async def plain(n: int) -> int:
    attempts.append(n)
    return n


@workflow(name="commits: plain")
async def plains() -> int:
    return await plain(1) + await plain(2)


@pytest.mark.parametrize("place", ["step.checkpointing", "workflow.finishing"])
def test_a_message_whose_answer_is_lost_is_sent_again_and_recognised(database: str, place: str) -> None:
    async def run() -> None:
        async with scene(database) as at:
            hold = at.watch.hold(place)
            handle = await at.client.start("one", plains)
            await hold.wait()
            at.wire.muted = True
            hold.release()
            if place == "step.checkpointing":
                await at.sql.until("select count(*) from duress.checkpoint where number = 2", is_=1)
            else:
                await at.sql.until("select count(*) from duress.live", is_=0)
            at.wire.muted = False
            at.wire.cut()
            assert await handle.result(timeout=9) == 3
            await at.watch.seen("workflow.finished")
            assert attempts == [1, 2]
            assert not at.watch.all("workflow.fenced")

    asyncio.run(run())


def test_a_start_whose_answer_is_lost_is_sent_again_and_starts_once(database: str) -> None:
    async def run() -> None:
        async with wired(database) as wire, opened(wire.dsn) as engine, session(database) as sql:
            await engine.start("first", plains)
            wire.muted = True
            starting = asyncio.create_task(engine.start("one", plains))
            await sql.until("select count(*) from duress.workflow", is_=2)
            wire.muted = False
            wire.cut()
            assert await (await starting).status() == "pending"
            assert await sql.one("select count(*) from duress.live") == 2

    asyncio.run(run())


def test_a_claim_whose_answer_is_lost_is_not_forgotten(database: str) -> None:
    async def run() -> None:
        async with scene(database) as at:
            at.wire.muted = True
            handle = await at.client.start("one", plains)
            await at.sql.until("select owner is not null from duress.live")
            at.wire.muted = False
            at.wire.cut()
            assert await handle.result(timeout=9) == 3
            assert await at.sql.one("select count(*) from duress.worker") == 1  # by the same incarnation

    asyncio.run(run())


def test_a_worker_whose_connections_die_on_its_side_only_lives_on(database: str) -> None:
    """Its old session still holds the lock by which its death would be known: that must not keep it from its heartbeat."""

    async def run() -> None:
        watch = Watch()
        async with wired(database) as wire, opened(database) as other, Engine(wire.dsn, observer=watch) as engine:
            options = {"lease": 1.0, "heartbeat": 0.1}
            async with working(other, **options), working(engine, **options):
                await watch.seen("worker.renewed")
                wire.cut(server_learns=False)
                seen = len(watch.all("worker.renewed"))
                await watch.seen("worker.renewed", count=seen + 15)  # longer than the lease
                assert not watch.all("worker.lost")
                async with session(database) as sql:
                    await sql.until(
                        "select count(*) from pg_locks where locktype = 'advisory' and objsubid = 2 and granted"
                        " and mode = 'ExclusiveLock'",
                        is_=2,
                    )

    asyncio.run(run())
