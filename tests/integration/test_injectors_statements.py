"""Faults of sessions and statements, in a run of real workers: PostgreSQL does each by itself, to the worker that was meant."""

import asyncio
import re
from pathlib import Path

import pytest

from duress.faults import worlds
from duress.faults.observe import LogWatch
from duress.faults.plan import (
    AnyFault,
    AtTime,
    CancelStatement,
    Deadlock,
    Event,
    IdleInTransactionTimeout,
    LockTimeout,
    Plan,
    ReadOnly,
    SerializationFailure,
    StatementTimeout,
    kind,
)
from duress.faults.postgres import read_log
from duress.faults.postgres.log import LogLine
from duress.scenarios import history, registry
from duress.scenarios.invariants import judge
from duress.scenarios.observed import Observed
from duress.scenarios.procs.ground import open_procs_ground
from duress.scenarios.settings import Settings
from duress.scenarios.work import Work

# Fault → the error that a session of the worker is told, and what PostgreSQL says to it.
TOLD: dict[AnyFault, tuple[str, str]] = {
    CancelStatement(): ("57014", "canceling statement due to user request"),
    StatementTimeout(timeout=0.05): ("57014", "canceling statement due to statement timeout"),
    LockTimeout(timeout=0.05): ("55P03", "canceling statement due to lock timeout"),
    Deadlock(): ("40P01", "deadlock detected"),
    SerializationFailure(): ("40001", "could not serialize access due to concurrent update"),
    IdleInTransactionTimeout(timeout=0.05): ("25P03", "terminating connection due to idle-in-transaction timeout"),
    ReadOnly(duration=0.5): ("25006", "in a read-only transaction"),
}
PLAN = Plan(
    events=tuple(
        Event(trigger=AtTime(seconds=0.2 + 0.2 * index), fault=fault, worker=index % 3)
        for index, fault in enumerate(TOLD)
    )
)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Observed, list[LogLine]]:
    """A run under PLAN, and what the server logged."""
    payments = registry.find("payments")

    async def run() -> tuple[Observed, list[LogLine]]:
        work = Work(
            scenario=payments,
            reference="payments",
            options={**payments.options, "transfers": 20, "lanes": 16, "lasting": 16},
            settings=Settings(workers=3),
            canary=None,
            dsn=None,
            logs=tmp_path_factory.mktemp("logs"),
        )
        async with open_procs_ground(work) as ground:
            assert ground._servers is not None
            seen = await ground.observe(1, PLAN)
            return seen, await asyncio.to_thread(lambda: list(read_log(ground._servers.first.log_path)))  # type: ignore[union-attr]

    return asyncio.run(run())


@pytest.mark.parametrize("index", range(len(TOLD)), ids=[kind(fault) for fault in TOLD])
def test_each_is_told_to_a_session_of_its_worker(observed: tuple[Observed, list[LogLine]], index: int) -> None:
    run, log = observed
    record = run.faults[index]
    sqlstate, message = list(TOLD.values())[index]
    assert record.asked is not None and record.effect is not None and record.healed is not None
    assert record.asked <= record.effect <= record.healed
    told = re.search(rf"state={sqlstate} .*app=duress:(\d+) ", str(record.confirmed_by))
    assert told is not None and message in str(record.confirmed_by)
    joined = {entry.facts["incarnation"] for entry in run.evidence.history if entry.name == "worker.joined"}
    assert int(told[1]) in joined
    assert any(line.sqlstate == sqlstate and message in line.message for line in log)


def test_the_run_goes_on_and_everything_holds(observed: tuple[Observed, list[LogLine]]) -> None:
    run, _ = observed
    assert run.doubts == ()
    assert judge(run.evidence, registry.find("payments").invariants) == []
    assert [entry.facts["unfinished"] for entry in run.evidence.history if entry.name == history.CALM_ENDED] == [0]


def test_an_error_that_somebody_else_was_told_confirms_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    prefix = "2026-01-01 00:00:00.000 UTC pid=1 type=client backend vxid=3/4 xid=0 state={} db=d app={} cmd=UPDATE | "
    log.write_text(prefix.format("40P01", "duress:1") + "ERROR:  deadlock detected\n")
    watch = LogWatch(log)
    assert watch.told("duress:1", "40P01") is None  # it was there before
    with log.open("a") as file:
        file.write(prefix.format("40P01", "duress:11") + "ERROR:  deadlock detected\n")
        file.write(prefix.format("40001", "duress:1") + "ERROR:  could not serialize access\n")
    assert watch.told("duress:1", "40P01") is None
    with log.open("a") as file:
        file.write(prefix.format("40P01", "duress:1") + "ERROR:  deadlock detected\n")
    assert "deadlock detected" in str(watch.told("duress:1", "40P01"))


def test_they_need_the_proxy_and_a_log_that_is_ours() -> None:
    for fault in TOLD:
        name = kind(fault)
        assert worlds.can(name, "procs", "proxy")
        assert worlds.can(name, "procs", "none") == (name == "cancel-statement")
        assert "not ours to read" in str(worlds.objection(name, "procs", own_server=False))
