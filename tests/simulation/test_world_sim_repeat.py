"""A simulated run is the same when it is looked at, when its recorded choices decide it, and in a fresh database."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from trace_events import objections

from duress.faults.plan import AtPoint, Event, KillWorker, Plan, TerminateBackend
from duress.reports.perfetto import perfetto
from duress.reports.timeline import lines
from duress.reports.trace import Names, Trace, session
from duress.scenarios import registry
from duress.scenarios.observed import Simulated
from duress.scenarios.settings import USUAL, Simulating
from duress.scenarios.sim.ground import SimGround, open_sim_ground
from duress.scenarios.work import Work

PAYMENTS = registry.find("payments")
SEEDS = (2, 3, 4)
PLAN = Plan(
    events=(
        Event(trigger=AtPoint(point="step.checkpointing", step="charge", occurrence=2), fault=KillWorker()),
        Event(trigger=AtPoint(point="step.committing", occurrence=3), fault=TerminateBackend()),
    )
)


def simulated(folder: Path, simulating: Simulating, seeds: Sequence[int] = SEEDS) -> list[Simulated]:
    """The runs of seeds, one after the other in one process."""

    async def run() -> list[Simulated]:
        work = Work(
            scenario=PAYMENTS,
            reference="payments",
            world="sim",
            options={**PAYMENTS.options, **PAYMENTS.simulated},
            settings=USUAL["sim"],
            canary=None,
            dsn=None,
            logs=folder,
            simulating=simulating,
        )
        async with open_sim_ground(work, 0) as ground:
            observed = [await ground.observe(seed, PLAN) for seed in seeds]
            return [one.simulated for one in observed if one.simulated is not None]

    return asyncio.run(run())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[Simulated]:
    return simulated(tmp_path_factory.mktemp("plain"), Simulating(twice_every=0))


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> list[Simulated]:
    return simulated(tmp_path_factory.mktemp("traced"), Simulating(twice_every=0, trace=True))


def test_looking_on_changes_nothing(plain: list[Simulated], traced: list[Simulated]) -> None:
    assert [run.hash for run in plain] == [run.hash for run in traced]
    assert all(run.trace == () for run in plain)
    assert len({run.hash for run in plain}) == len(SEEDS)


def test_a_fresh_database_and_another_process_give_the_same_runs(tmp_path: Path, plain: list[Simulated]) -> None:
    fresh = simulated(tmp_path, Simulating(twice_every=0, fresh=True), SEEDS[1:])
    assert [run.hash for run in fresh] == [run.hash for run in plain[1:]]
    assert {run.code for run in fresh} == {run.code for run in plain}


def test_the_trace_says_whom_a_session_waits_for(traced: list[Simulated]) -> None:
    trace = traced[0].trace
    waits = [entry for entry in trace if entry[2] == "server" and "waits: LOCK" in entry[3]]
    blocked = {(entry[0], session(entry[3])[0]): entry[3] for entry in trace if entry[2] == "blocked"}
    names = Names.of(trace)
    assert waits
    for at, _, _, text, _ in waits:
        waiter = session(text)[0]
        [holder] = {int(one) for one in blocked[at, waiter].partition(" by session ")[2].split(", ")[:1]}
        assert holder != waiter and {holder, waiter} <= names.sessions.keys()
    told = list(lines(trace))
    assert sum(", for session" in line for line in told) == len(waits)
    assert any("* fault.effect index=0 kind=kill-worker" in line for line in told)


def test_a_real_trace_is_sound_for_a_viewer(traced: list[Simulated]) -> None:
    for run in traced:
        document = Trace(
            scenario="payments",
            seed=0,
            token="",
            hash=run.hash,
            verdict="pass",
            said=(),
            faults=(),
            python="",
            postgres="",
            entries=run.trace,
        )
        assert objections(perfetto(document)) == []


def test_recorded_choices_are_the_run_whichever_scheduler_made_them(tmp_path: Path) -> None:
    [made] = simulated(tmp_path / "made", Simulating(twice_every=0, trace=True, scheduler="pct"), SEEDS[:1])
    assert made.choices is not None
    [again] = simulated(tmp_path / "again", Simulating(twice_every=1, choices=made.choices), SEEDS[:1])
    assert again.twice and again.hash == made.hash
    shorter = {stream: values[: len(values) // 2] for stream, values in made.choices.items()}
    [other] = simulated(tmp_path / "other", Simulating(twice_every=1, choices=shorter), SEEDS[:1])
    assert other.hash != made.hash


def test_a_new_process_goes_on_where_the_old_one_has_grown_too_large(
    plain: list[Simulated], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, opening = [], SimGround.open

    async def opened(ground: SimGround) -> None:
        await opening(ground)
        started.append(ground.postgres)

    monkeypatch.setattr(SimGround, "open", opened)
    monkeypatch.setattr("duress.scenarios.sim.ground.RUNS", 2)
    again = simulated(tmp_path, Simulating(twice_every=0))
    assert len(started) == 2 and len(set(started)) == 1
    assert [one.hash for one in again] == [one.hash for one in plain]
