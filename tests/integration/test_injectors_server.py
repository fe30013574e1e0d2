"""Faults of the server happen to a real PostgreSQL, its own log and catalogue confirm them, and it comes back."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Literal

import psycopg
import pytest
from injected_workers import Workers, held, now, struck

from duress.faults.injectors import sessions
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.procs import ProcsInjector
from duress.faults.injectors.server import back
from duress.faults.journal import Journal
from duress.faults.observe import Observer, ProcessWatch
from duress.faults.plan import CrashBackend, KillWorker, Plan, PlanError, RestartPostgres, TerminateBackend
from duress.faults.postgres import Server
from duress.faults.worlds import refuse


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Of these tests only, for they take it down."""
    with Server.start() as server:
        yield server


def started(server: Server) -> object:
    with psycopg.connect(server.dsn()) as connection:
        return connection.execute("select pg_postmaster_start_time()").fetchone()


def sessions_of(server: Server, incarnation: int) -> set[int]:
    with psycopg.connect(server.dsn()) as connection:
        name = f"duress:{incarnation}"
        rows = connection.execute("select pid from pg_stat_activity where application_name = %s", [name]).fetchall()
        return {pid for (pid,) in rows}


@pytest.mark.parametrize("ours", [True, False])
def test_terminate_ends_the_session_that_is_inside_a_transaction(server: Server, tmp_path: Path, ours: bool) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, ours=ours, workers=2) as (workers, injector, [_, ready]):
            injection = await injector.inject(held(TerminateBackend()), 1)
            assert injection.fired
            assert sessions_of(server, 2).isdisjoint({ready.inside})
            seen = "terminating connection due to administrator command" if ours else "has left pg_stat_activity"
            assert seen in str(injection.confirmed_by)
            assert str(ready.inside) in str(injection.confirmed_by)
            assert "(inside a transaction)" in str(injection.confirmed_by)
            assert injection.asked is not None and injection.effect is not None
            assert injection.asked < injection.effect == injection.healed
            assert len(sessions_of(server, 1)) == 2  # the other worker keeps its own
            await workers.ready(1)

    asyncio.run(run())


def test_a_session_outside_a_transaction_will_do_when_there_is_no_other(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, transaction=0.1) as (workers, injector, [ready]):
            os.killpg(workers.processes[0].pid, signal.SIGSTOP)  # it shall not open another when this one is lost
            await injector.inject(held(TerminateBackend()), 0)
            injection = await injector.inject(now(TerminateBackend()), 0)
            assert injection.fired
            assert f"pid={ready.idle} " in str(injection.confirmed_by)
            assert "inside" not in str(injection.confirmed_by)
            held_one = await injector.inject(held(TerminateBackend()), 0)
            assert not held_one.fired
            assert held_one.reason == "worker 0 (incarnation 1) has no session that could be terminated"

    asyncio.run(run())


def test_a_role_that_may_not_terminate_is_told_what_to_grant(server: Server, tmp_path: Path) -> None:
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("create role weak login")

    async def run() -> None:
        async with struck(server, tmp_path) as (workers, _, [ready]):
            workers.dsn = server.dsn(user="weak")
            async with ProcsInjector(workers, clock=monotonic, journal=Journal(tmp_path)) as injector:
                with pytest.raises(PermissionError, match=r"permission denied.*grant pg_signal_backend"):
                    await injector.inject(held(TerminateBackend()), 0)
            assert sessions_of(server, 1) == {ready.idle, ready.inside}

    with pytest.raises(PermissionError):  # and once more on leaving, in case nobody listened
        asyncio.run(run())


def test_a_worker_that_has_not_joined_has_no_session(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, victim=0.2) as (workers, injector, _):
            workers.incarnations.clear()
            for event in (held(TerminateBackend()), now(TerminateBackend())):
                injection = await injector.inject(event, 0)
                assert injection.reason == "worker 0 has no process that has joined"

    asyncio.run(run())


def test_sessions_of_another_database_are_not_struck(server: Server, tmp_path: Path) -> None:
    """Runs beside each other on one server count their incarnations from 1, each in its own database."""
    server.create_database("another")

    async def run() -> None:
        other = Workers(server, server.dsn("another"))
        try:
            await other.spawn(0)
            elsewhere = await other.ready(0)
            async with struck(server, tmp_path) as (workers, injector, _):
                os.killpg(workers.processes[0].pid, signal.SIGSTOP)
                struck_twice = [await injector.inject(held(TerminateBackend()), 0) for _ in range(2)]
                assert all(injection.fired for injection in struck_twice)
                assert not (await injector.inject(held(TerminateBackend()), 0)).fired
                assert sessions_of(server, 1) == {elsewhere.idle, elsewhere.inside}
        finally:
            await other.close()

    asyncio.run(run())


def test_crash_takes_all_sessions_and_the_server_recovers(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, workers=2) as (workers, injector, [ready, other]):
            before = server.postmaster_pid, started(server)
            watch = ProcessWatch(other.idle)
            injection = await injector.inject(held(CrashBackend()), 0)
            assert f"(PID {ready.inside}) was terminated by signal 9" in str(injection.confirmed_by)
            await injection.done()
            assert "database system is ready to accept connections" in str(injection.confirmed_by)
            assert injection.asked is not None and injection.effect is not None and injection.healed is not None
            assert injection.asked < injection.effect < injection.healed
            assert watch.gone()
            assert (server.postmaster_pid, started(server)) == before  # recovered, not restarted
            await workers.ready(0)
            await workers.ready(1)

    asyncio.run(run())


def test_crash_takes_any_backend_when_the_worker_has_none(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, workers=2) as (_workers, injector, [_, other]):
            await (await injector.inject(now(KillWorker(restart_after=None)), 0)).done()
            injection = await injector.inject(now(CrashBackend()), 0)
            assert f"(PID {other.inside})" in str(injection.confirmed_by)

    asyncio.run(run())


def test_crash_without_any_session_has_not_fired(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, victim=0.2) as (_, injector, _ready):
            await (await injector.inject(now(KillWorker(restart_after=None)), 0)).done()
            injection = await injector.inject(now(CrashBackend()), 0)
            assert injection.reason == "no worker has a session"

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_is_another_postmaster_after_its_absence(
    server: Server, tmp_path: Path, mode: Literal["fast", "immediate"]
) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, _):
            before = server.postmaster_pid, started(server)
            injection = await injector.inject(held(RestartPostgres(mode=mode, down=0.3)), 0)
            assert injection.confirmed_by == f"process {before[0]} is gone"
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(server.dsn())
            await injection.done()
            assert "pg_postmaster_start_time went from" in str(injection.confirmed_by)
            assert injection.asked is not None and injection.effect is not None and injection.healed is not None
            assert injection.asked < injection.effect
            assert injection.healed - injection.asked >= 0.3
            assert server.postmaster_pid != before[0]
            assert started(server) != before[1]
            await workers.ready(0)

    asyncio.run(run())


def test_a_server_that_recovered_was_not_restarted(server: Server, tmp_path: Path) -> None:
    """Both write that they are ready; only another postmaster has another start time."""

    async def run() -> None:
        observer = Observer(clock=monotonic, dsn=server.dsn(), log=lambda: server.log_path)
        log = observer.log()
        before = await observer.server_started()
        async with struck(server, tmp_path) as (_, injector, _ready):
            await (await injector.inject(held(CrashBackend()), 0)).done()
            with pytest.raises(RuntimeError, match=r"not back 0\.1 s after"):
                await back(observer, Patience(outage=0.1), log, other_than=before)

    asyncio.run(run())


def test_outages_wait_for_each_other_and_sessions_for_the_server(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (_, injector, _ready):
            restart = await injector.inject(held(RestartPostgres(down=0.3)), 0)
            crash, terminate = await asyncio.gather(
                injector.inject(now(CrashBackend()), 0), injector.inject(now(TerminateBackend()), 0)
            )
            await injector.settle()
            assert restart.fired and crash.fired and terminate.fired
            assert restart.asked is not None and restart.healed is not None
            assert crash.asked is not None and terminate.asked is not None
            assert restart.healed <= crash.asked
            assert restart.asked + 0.3 <= terminate.asked

    asyncio.run(run())


def test_leaving_waits_until_the_server_is_back(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (_, injector, _ready):
            async with injector:
                await injector.inject(held(RestartPostgres(down=0.3)), 0)
            started(server)

    asyncio.run(run())


def test_what_fails_while_healing_is_raised_on_leaving(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no space left")

    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, _):
            monkeypatch.setattr(workers, "respawn", broken)
            await injector.inject(now(KillWorker(restart_after=600)), 0)

    with pytest.raises(OSError, match="no space left"):
        asyncio.run(run())


@pytest.mark.parametrize("fault", [CrashBackend(), RestartPostgres()])
def test_a_users_own_server_is_not_taken_down(
    server: Server, tmp_path: Path, fault: CrashBackend | RestartPostgres
) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, ours=False) as (_, injector, _ready):
            await injector.inject(held(fault), 0)

    before = started(server)
    name = "crash-backend" if isinstance(fault, CrashBackend) else "restart-postgres"
    with pytest.raises(PlanError, match=rf"events\[0\].fault.kind is '{name}'.*run without --dsn"):
        asyncio.run(run())
    assert started(server) == before
    plan = Plan(events=(now(TerminateBackend()), now(fault)))
    with pytest.raises(PlanError, match=r"events\[1\]"):
        refuse(plan, "procs", own_server=False)
    refuse(plan, "procs", own_server=True)
    refuse(Plan(events=(now(TerminateBackend()), now(KillWorker()))), "procs", own_server=False)


@pytest.mark.parametrize(
    ("fault", "ours"),
    [(TerminateBackend(), True), (TerminateBackend(), False), (CrashBackend(), True), (RestartPostgres(), True)],
)
def test_what_is_not_injected_is_not_observed(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: TerminateBackend | CrashBackend | RestartPostgres,
    ours: bool,
) -> None:
    """The same observation without the injection says: not fired."""
    for name in ("terminate_session", "find_session"):
        harmless = (sessions.SQL / f"{name}.sql").read_text().replace("pg_terminate_backend(pid)", "true")
        (tmp_path / f"{name}.sql").write_text(harmless)

    async def run() -> None:
        async with struck(server, tmp_path / "journal", ours=ours, effect=0.2) as (_, injector, [ready]):
            with monkeypatch.context() as patched:
                patched.setattr(sessions, "SQL", tmp_path)
                patched.setattr(os, "kill", lambda *_: None)
                patched.setattr(server, "restart", lambda *_: None)
                injection = await injector.inject(held(fault), 0)
                await injection.done()
            assert not injection.fired
            assert injection.confirmed_by is None
            assert str(server.postmaster_pid if isinstance(fault, RestartPostgres) else ready.inside) in str(
                injection.reason
            )

    asyncio.run(run())


def test_the_log_tells_of_this_session_and_of_now_only(server: Server, tmp_path: Path) -> None:
    """What happened to another session, or before the watch began, confirms nothing."""

    async def run() -> None:
        observer = Observer(clock=monotonic, dsn=server.dsn(), log=lambda: server.log_path)
        before = observer.log()
        assert before is not None
        async with struck(server, tmp_path) as (workers, injector, [ready]):
            await injector.inject(held(TerminateBackend()), 0)
            crashed = await workers.ready(0)
            await (await injector.inject(held(CrashBackend()), 0)).done()
            after = observer.log()
            assert after is not None
            assert before.terminated(ready.inside) and before.killed(crashed.inside) and before.ready()
            assert not before.terminated(ready.idle) and not before.killed(crashed.idle)
            assert not before.terminated(ready.inside // 10) and not before.killed(crashed.inside // 10)
            assert not after.terminated(ready.inside) and not after.killed(crashed.inside) and not after.ready()

    asyncio.run(run())
