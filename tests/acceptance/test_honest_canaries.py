"""Canaries are honest: without faults and with one worker each of them passes, but for the exceptions that say why."""

import asyncio
from pathlib import Path

import pytest

from duress.faults.plan import Plan
from duress.faults.postgres import Server
from duress.scenarios import registry
from duress.scenarios.canaries import PAYMENTS, Canary
from duress.scenarios.invariants import judge
from duress.scenarios.procs.ground import open_procs_ground
from duress.scenarios.settings import Settings
from duress.scenarios.work import Work


@pytest.mark.parametrize("canary", PAYMENTS, ids=lambda canary: canary.name)
def test_a_canary_passes_without_faults_with_one_worker(canary: Canary, tmp_path: Path, server: Server) -> None:
    payments = registry.find("payments")

    async def broken() -> set[str]:
        work = Work(
            scenario=payments,
            reference="payments",
            options={**payments.options, "transfers": 24, "lanes": 8},
            settings=Settings(workers=1),
            canary=canary.name,
            dsn=server.dsn(),
            logs=tmp_path,
        )
        async with open_procs_ground(work) as ground:
            run = await ground.observe(1, Plan())
            assert run.doubts == ()
            return {finding.invariant for finding in judge(run.evidence, payments.invariants)}

    assert asyncio.run(broken()) == (set() if canary.exception is None else {canary.breaks[0]})
