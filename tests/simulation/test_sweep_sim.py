"""A run is the same as the one without faults until its fault strikes, and a broken engine fails where it is broken."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from duress.faults.plan import Plan, kind
from duress.scenarios import coverage, registry
from duress.scenarios.campaign import Order
from duress.scenarios.coverage import Swept, Target, Where
from duress.scenarios.settings import USUAL, Simulating
from duress.scenarios.sim.ground import open_sim_ground
from duress.scenarios.sweep import base_run, strike
from duress.scenarios.work import Work

PAYMENTS = registry.find("payments")


def order(folder: Path, canary: str | None = None, transfers: int = 2) -> Order:
    work = Work(
        scenario=PAYMENTS,
        reference="payments",
        world="sim",
        options={**PAYMENTS.options, **PAYMENTS.simulated, "transfers": transfers, "lanes": 2},
        settings=dataclasses.replace(USUAL["sim"], until="wanted"),
        canary=canary,
        dsn=None,
        logs=folder,
        simulating=Simulating(twice_every=0),
    )
    return Order(work=work, seeds=(), plan=None, kinds={}, places=(), out=folder)


def sweep(asked: Order, choose: "type[Chosen]") -> tuple[list[Target], list[Swept]]:
    """All targets of a base run, and the results of the chosen ones."""

    async def run() -> tuple[list[Target], list[Swept]]:
        seed, base = await base_run(asked, [1])
        wanted = coverage.targets(base, coverage.faults(asked.work.settings.lease))
        async with open_sim_ground(asked.work, 0) as ground:
            return wanted, [await strike(asked, ground, seed, (one,)) for one in choose.of(wanted)]

    return asyncio.run(run())


class Chosen:
    """Of each kind of fault at each kind of place the first, one in the middle, and the last."""

    @staticmethod
    def of(wanted: list[Target]) -> list[Target]:
        groups: dict[tuple[Where, str], list[Target]] = {}
        for one in wanted:
            groups.setdefault((one.where, kind(one.event.fault)), []).append(one)
        return [one for group in groups.values() for one in (group[0], group[len(group) // 2], group[-1])]


class FirstTransaction(Chosen):
    """A worker is killed before and after each statement of the first transaction step, up to the second COMMIT."""

    @staticmethod
    def of(wanted: list[Target]) -> list[Target]:
        own = [
            one
            for one in wanted
            if one.where in ("before", "after")
            and kind(one.event.fault) == "kill-worker"
            and one.text.startswith(("begin", "update account", "insert into ledger", "commit"))
        ]
        second = [place for place, one in enumerate(own) if one.text == "commit"][3]  # before and after each
        return own[: second + 1]


def test_each_fault_strikes_at_each_kind_of_place_to_the_last_and_payments_survive(tmp_path: Path) -> None:
    """That the last place of the run is reached shows that nothing before it has changed."""
    _, results = sweep(order(tmp_path), Chosen)
    assert len(results) == 36
    for one in results:
        assert (one.verdict, one.struck, one.why) == ("pass", 1, ()), one
        assert one.token == ""


def test_nothing_changes_until_the_fault_strikes(tmp_path: Path) -> None:
    """What was observed up to then is what the run without faults has shown, to the last fact and the nanosecond."""
    asked = order(tmp_path)

    async def run() -> None:
        seed, base = await base_run(asked, [1])
        wanted = coverage.targets(base, coverage.faults(asked.work.settings.lease))
        kills = [one for one in wanted if kind(one.event.fault) == "kill-worker"]
        often = max(kills, key=lambda one: getattr(one.event.trigger, "occurrence", 0))
        async with open_sim_ground(asked.work, 0) as ground:
            for one in (often, kills[len(kills) // 2], kills[-1]):
                observed = await ground.observe(seed, Plan(events=(one.event,)))
                [record] = observed.faults
                assert record.asked is not None
                before = [entry for entry in observed.evidence.history if entry.at < record.asked]
                assert len(before) > 5 and before == list(base.evidence.history[: len(before)]), one

    asyncio.run(run())


def test_a_canary_fails_within_its_window_and_nowhere_else(tmp_path: Path) -> None:
    """Two commits instead of one: from the first to the second, and only there, a worker's death is seen."""
    asked = order(tmp_path, "checkpoint-apart", transfers=1)
    _, results = sweep(asked, FirstTransaction)
    course = [f"{one.targets[0].where} {one.targets[0].text[:18].strip()}: {one.verdict}" for one in results]
    assert course == [
        "before begin isolation le: pass",
        "after begin isolation le: pass",
        "before update account set: pass",
        "after update account set: pass",
        "before insert into ledger: pass",
        "after insert into ledger: pass",
        "before commit: pass",
        "after commit: fail",
        "before begin isolation le: fail",
        "after begin isolation le: fail",
        "before commit: fail",
        "after commit: pass",
    ]
    for one in results:
        assert one.struck == 1
        assert one.verdict == "pass" or (set(one.broken) >= {"S3"} and one.token.startswith("s1.")), one


@pytest.mark.parametrize("seeds", [[1, 2, 3]])
def test_the_base_run_is_one_that_shows_what_the_scenario_names(tmp_path: Path, seeds: list[int]) -> None:
    seed, base = asyncio.run(base_run(order(tmp_path), seeds))
    assert seed in seeds and base.simulated is not None and base.simulated.exchanges
