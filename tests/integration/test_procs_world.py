"""One run of payments in real processes: its history says what happened, in terms that the checkers can trust."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import psycopg
import pytest
from telling_worker import LIMIT, in_a_loop, state

from duress.engine import observer
from duress.faults.plan import (
    AnyFault,
    AtPoint,
    AtTime,
    CrashBackend,
    Event,
    KillWorker,
    PauseWorker,
    Plan,
    StopWorker,
    TerminateBackend,
)
from duress.faults.postgres import Server
from duress.scenarios import history, registry
from duress.scenarios.history import Entry
from duress.scenarios.observed import Observed
from duress.scenarios.procs.births import NurseryLost, open_nursery
from duress.scenarios.procs.database import Databases, DatabaseUnusable, connect
from duress.scenarios.procs.ground import open_procs_ground
from duress.scenarios.settings import Settings
from duress.scenarios.work import Work


def at_point(fault: AnyFault, worker: int, point: str, step: str | None = None, occurrence: int = 1) -> Event:
    return Event(trigger=AtPoint(point=point, step=step, occurrence=occurrence), fault=fault, worker=worker)


PLAN = Plan(
    events=(
        at_point(KillWorker(restart_after=0.1), 0, observer.CHECKPOINTING, "charge", 2),
        at_point(PauseWorker(duration=0.7), 1, observer.COMMITTING, "debit", 2),
        Event(trigger=AtTime(seconds=0.2), fault=StopWorker(restart_after=0.1), worker=2),
        at_point(CrashBackend(), 2, observer.STARTED, occurrence=12),
        at_point(TerminateBackend(), 1, observer.COMMITTING, "debit", 1),
    )
)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Observed, dict[int, int]]:
    """A run under PLAN, and the sessions lost within a transaction by seed."""
    payments = registry.find("payments")

    async def run() -> tuple[Observed, dict[int, int]]:
        work = Work(
            scenario=payments,
            reference="payments",
            options={**payments.options, "transfers": 20, "lanes": 16},
            settings=Settings(workers=3, lease=0.5, heartbeat=0.1),
            canary=None,
            dsn=None,
            logs=tmp_path_factory.mktemp("logs"),
        )
        async with open_procs_ground(work) as ground:
            return await ground.observe(4, PLAN), dict(await ground.lost_in_transaction())

    return asyncio.run(run())


def named(observed: Observed, name: str, **facts: object) -> list[Entry]:
    return [
        entry
        for entry in observed.evidence.history
        if entry.name == name and all(entry.facts.get(key) == value for key, value in facts.items())
    ]


def test_every_fault_of_the_plan_fired_and_was_confirmed(observed: tuple[Observed, dict[int, int]]) -> None:
    run, _ = observed
    assert run.doubts == ()
    assert [record.kind for record in run.faults] == [
        "kill-worker",
        "pause-worker",
        "stop-worker",
        "crash-backend",
        "terminate-backend",
    ]
    for index, record in enumerate(run.faults):
        assert record.asked is not None and record.effect is not None and record.healed is not None
        assert record.asked <= record.effect <= record.healed, record
        assert record.confirmed_by
        [asked], [effect], [healed] = (
            named(run, name, index=index) for name in (history.FAULT_ASKED, history.FAULT_EFFECT, history.FAULT_HEALED)
        )
        assert (asked.at, effect.at, healed.at) == (record.asked, record.effect, record.healed)
        assert asked.facts["kind"] == record.kind and asked.facts["worker"] == record.worker


def test_a_worker_killed_at_a_point_said_nothing_after_it(observed: tuple[Observed, dict[int, int]]) -> None:
    """Kill at the second checkpointing of charge: that is the last word of the process."""
    run, _ = observed
    killed = named(run, history.FAULT_EFFECT, kind="kill-worker")[0]
    exited = min((entry for entry in named(run, history.EXITED, worker=0, signal=9)), key=lambda entry: entry.at)
    words = [entry for entry in run.evidence.history if entry.source == "worker 0" and entry.at < exited.at]
    assert words[-1].name == observer.CHECKPOINTING and words[-1].facts["name"] == "charge"
    assert sum(entry.name == observer.CHECKPOINTING and entry.facts["name"] == "charge" for entry in words) == 2
    assert words[-1].at < killed.at
    workflow = words[-1].facts["workflow"]
    rows = [row for row in run.evidence.final.checkpoints if row.workflow == workflow and row.name == "charge"]
    assert [row.epoch > words[-1].facts["epoch"] for row in rows] == [True], "another one wrote it, under a later epoch"


def test_what_a_worker_says_of_itself_is_heard_once(observed: tuple[Observed, dict[int, int]]) -> None:
    run, _ = observed
    zombies = named(run, history.SOMETIMES, what="a worker learned that it had been declared dead")
    assert "worker 1" in {entry.source for entry in zombies}, "it was paused for longer than its lease"
    words = [
        (entry.source, entry.facts["what"])
        for entry in run.evidence.history
        if entry.name == history.SOMETIMES and entry.source == "worker 1"  # one process all the time
    ]
    assert words and len(words) == len(set(words))
    assert not named(run, history.ALWAYS, holds=False)


def test_a_paused_worker_says_nothing_while_it_is_paused(observed: tuple[Observed, dict[int, int]]) -> None:
    run, _ = observed
    [record] = [record for record in run.faults if record.kind == "pause-worker"]
    assert record.effect is not None and record.healed is not None
    assert record.healed - record.effect >= 0.69
    words = [entry.at for entry in run.evidence.history if entry.source == "worker 1"]
    assert not [at for at in words if record.effect < at < record.effect + 0.69]
    assert [at for at in words if at > record.healed], "it goes on afterwards"


def test_the_calm_phase_begins_after_the_last_fault_has_healed_and_ends_with_nothing_open(
    observed: tuple[Observed, dict[int, int]],
) -> None:
    run, _ = observed
    [began], [ended] = named(run, history.CALM_BEGAN), named(run, history.CALM_ENDED)
    assert began.at >= max(record.healed or 0.0 for record in run.faults)
    assert ended.at > began.at and ended.facts["unfinished"] == 0
    accepted = {entry.facts["workflow"] for entry in named(run, observer.ACCEPTED)}
    assert accepted == {row.id for row in run.evidence.final.workflows} and len(accepted) >= 20
    assert {row.status for row in run.evidence.final.workflows} == {"succeeded"}


def test_processes_come_and_go_as_told(observed: tuple[Observed, dict[int, int]]) -> None:
    run, _ = observed
    spawned, exited = named(run, history.SPAWNED), named(run, history.EXITED)
    assert {entry.facts["pid"] for entry in spawned} == {entry.facts["pid"] for entry in exited}
    assert len(spawned) == 3 + 2, "three workers, of which one was killed and one stopped"
    assert all(entry.facts["planned"] for entry in exited)
    assert max((entry.facts["signal"] or 0, entry.facts["code"]) for entry in exited) == (9, None)


def test_one_clock_for_all(observed: tuple[Observed, dict[int, int]]) -> None:
    """The database's times, shifted by `clock_offset`, lie where the workers' own reports say that they must."""
    run, _ = observed
    history_ = run.evidence.history
    assert [entry.at for entry in history_] == sorted(entry.at for entry in history_)
    asked = {(e.facts["workflow"], e.facts["step"], e.facts["epoch"]): e.at for e in named(run, observer.CHECKPOINTING)}
    known = {(e.facts["workflow"], e.facts["step"], e.facts["epoch"]): e.at for e in named(run, observer.CHECKPOINTED)}
    both = 0
    for row in run.evidence.final.checkpoints:
        key = (row.workflow, row.step, row.epoch)
        if key in asked and key in known:
            both += 1
            assert asked[key] - 0.005 <= row.at - run.evidence.clock_offset <= known[key] + 0.005, row
    assert both > 20


def test_the_receiver_saw_more_attempts_than_there_are_checkpoints(observed: tuple[Observed, dict[int, int]]) -> None:
    run, lost = observed
    received = named(run, history.RECEIVED)
    keys = {entry.facts["key"] for entry in received}
    assert len(received) > len(keys), "the killed worker's charge was made again"
    assert all(entry.source == "receiver" for entry in received)
    assert sum(entry.facts["applied"] for entry in received) == len(keys)
    assert lost[4] >= 1, "the session that was terminated at COMMIT was inside a transaction"


def test_the_ledger_is_part_of_the_final_state_and_sums_to_zero(observed: tuple[Observed, dict[int, int]]) -> None:
    run, _ = observed
    ledger, account = run.evidence.final.tables["ledger"], run.evidence.final.tables["account"]
    assert sum(line["cents"] for line in ledger) == 0 and len(ledger) >= 2 * 2 * 20 - 2
    assert len(account) == 16 and sum(row["balance"] for row in account) == 16 * 1_000_000
    assert all(line["committed_at"] >= line["at"] for line in ledger)


@in_a_loop
async def test_a_database_is_dropped_whoever_is_still_connected(server: Server) -> None:
    databases = Databases.on(server.dsn())
    assert (await databases.check()).startswith(str(server.version // 10000))

    async def build(dsn: str) -> None:
        async with connect(dsn) as connection:
            await connection.execute("create table here (x int)")

    async with databases.template(build) as template:
        watching = await psycopg.AsyncConnection.connect(databases.dsn_of(template))  # as a pooler would
        async with databases.fresh("one", template) as dsn:
            left_open = await psycopg.AsyncConnection.connect(dsn)
            await left_open.execute("select * from here")
        await watching.close()
    with psycopg.connect(server.dsn()) as connection:
        assert not connection.execute("select from pg_database where datname ~ '^duress_'").fetchall()


@in_a_loop
async def test_a_server_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(DatabaseUnusable, match="does not answer"):
        await Databases.on("host=127.0.0.1 port=1").check()


@in_a_loop
async def test_the_nursery_tells_how_workers_end_and_takes_all_with_it(tmp_path: Path) -> None:
    """Also what imports wrongly is an error at once, not a worker that never joins."""
    with pytest.raises(NurseryLost, match="nothing:here"):
        async with open_nursery("nothing:here", None):
            raise AssertionError("not reached")
    async with open_nursery("payments", None) as nursery:
        ours, theirs = socket.socketpair()
        with theirs, (tmp_path / "log").open("wb") as log:
            first = await nursery.spawn(theirs.fileno(), log.fileno())
            second = await nursery.spawn(theirs.fileno(), log.fileno())
        assert os.getpgid(first.pid) == first.pid, "it leads its own group"
        os.killpg(first.pid, signal.SIGKILL)
        assert await asyncio.wait_for(first.wait(), LIMIT) == -9
        os.kill(second.pid, signal.SIGSTOP)
        ours.close()
    assert await asyncio.wait_for(second.wait(), LIMIT) == -9
    async with asyncio.timeout(2):  # the kernel kills it as its parent ends, and it takes a moment to die
        while state(second.pid):  # noqa: ASYNC110  # it is about another process
            await asyncio.sleep(0.005)
