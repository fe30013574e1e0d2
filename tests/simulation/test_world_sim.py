"""The simulated world runs a scenario unchanged: every fault strikes, a seed is one run, and what is broken is found."""

from pathlib import Path

import pytest
from grounds import PAYMENTS, Proving, at_charge, on_ground, soon

from duress.faults.plan import (
    AnyFault,
    CrashBackend,
    KillWorker,
    PauseWorker,
    RestartPostgres,
    StopWorker,
    TerminateBackend,
)
from duress.scenarios import history
from duress.scenarios.invariants import judge
from duress.scenarios.observed import Observed
from duress.scenarios.sim.ground import SimGround


@pytest.mark.parametrize(
    "fault",
    [
        KillWorker(restart_after=0.1),
        KillWorker(restart_after=None),
        PauseWorker(duration=0.8),
        StopWorker(restart_after=0.1),
        TerminateBackend(),
        CrashBackend(),
        RestartPostgres(mode="fast", down=0.1),
        RestartPostgres(mode="immediate"),
    ],
    ids=repr,
)
def test_every_fault_strikes_and_payments_survive_it(ground: Proving, fault: AnyFault) -> None:
    ground.survives((2, at_charge(fault)), (3, soon(fault)))


def test_a_seed_is_one_run_in_every_process(tmp_path: Path) -> None:
    plan = at_charge(KillWorker(restart_after=0.1))

    async def use(ground: SimGround) -> list[Observed]:
        return [await ground.observe(seed, plan) for seed in (5, 6)]

    one, two = on_ground(tmp_path, use), on_ground(tmp_path, use)
    assert one[0].evidence.history == two[0].evidence.history
    assert one[1].evidence.history == two[1].evidence.history
    assert one[0].evidence.history != one[1].evidence.history
    assert one[0].evidence.final.checkpoints == two[0].evidence.final.checkpoints


def test_nothing_is_heard_of_a_worker_after_it_was_killed(tmp_path: Path) -> None:
    plan = at_charge(KillWorker(restart_after=None))

    async def use(ground: SimGround) -> Observed:
        return await ground.observe(7, plan)

    entries = on_ground(tmp_path, use).evidence.history
    [end] = [entry for entry in entries if entry.name == history.EXITED and entry.facts["signal"] == 9]
    source = f"worker {end.facts['worker']}"
    assert [entry for entry in entries if entry.source == source]
    assert not [entry for entry in entries if entry.source == source and entry.at > end.at]


def test_what_the_code_says_of_itself_is_in_the_history_with_who_said_it(tmp_path: Path) -> None:
    async def use(ground: SimGround) -> list[Observed]:
        return [await ground.observe(seed, at_charge(PauseWorker(duration=0.8))) for seed in range(5, 10)]

    sources: dict[str, set[str]] = {}
    for observed in on_ground(tmp_path, use):
        said = [entry for entry in observed.evidence.history if entry.name == history.SOMETIMES]
        assert len(said) == len({entry.facts["what"] for entry in said}), "each is told once"
        for entry in said:
            sources.setdefault(entry.facts["what"], set()).add(entry.source.split()[0])
        held = [entry for entry in observed.evidence.history if entry.name == history.ALWAYS]
        assert held and all(entry.facts["holds"] for entry in held)
    assert sources["a worker was taken over by its lease"] == {"worker"}
    assert sources["a start found its workflow there already"] == {"client"}


@pytest.mark.parametrize(
    ("canary", "invariant"),
    [("replay-forgets-last-step", "S2"), ("checkpoint-apart", "S3"), ("key-of-the-epoch", "S4")],
)
def test_a_canary_is_caught(tmp_path: Path, canary: str, invariant: str) -> None:
    async def use(ground: SimGround) -> set[str]:
        for seed in range(2, 40):
            if seed % 10 != 1:  # those are run twice
                observed = await ground.observe(seed, at_charge(KillWorker(restart_after=0.1), 1 + seed % 4))
                found = {finding.invariant for finding in judge(observed.evidence, PAYMENTS.invariants)}
                if invariant in found:
                    return found
        return set()

    assert invariant in on_ground(tmp_path, use, canary)
