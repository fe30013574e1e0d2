"""A campaign's side of a simulating process: one for each lane, each on a core of its own."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping

from duress.faults.plan import Plan
from duress.faults.postgres import ServerError
from duress.scenarios.observed import CellEnded, Diverged, Observed, RunFailed
from duress.scenarios.registry import search_path
from duress.scenarios.sim.wire import Ask, Opened, Opening, Told, Variation, exchange
from duress.scenarios.work import Work


class SimGround:
    """Ready for runs, one after the other."""

    def __init__(self, process: asyncio.subprocess.Process, postgres: str, twice_every: int) -> None:
        self._process = process
        self.postgres = postgres
        self._twice_every = twice_every

    async def observe(self, seed: int, plan: Plan) -> Observed:
        """One run; a sample of them twice. Raises Diverged if that is not the same, RunFailed."""
        twice = self._twice_every > 0 and seed % self._twice_every == 1 % self._twice_every
        ask = Ask(seed=seed, plan=plan, twice=twice)
        try:
            told = await exchange(self._process, ask, Told)
        except EOFError:
            raise CellEnded(f"the simulating process ended ({await self._process.wait()})") from None
        return heard(told)

    async def vary(self, seed: int, plan: Plan, variation: Variation) -> Observed:
        """One run that is sized and decided in its own way. Raises RunFailed; CellEnded if there can be no other run."""
        try:
            told = await exchange(self._process, Ask(seed=seed, plan=plan, variation=variation), Told)
        except EOFError:
            raise CellEnded(f"the simulating process ended ({await self._process.wait()})") from None
        return heard(told)

    async def lost_in_transaction(self) -> Mapping[int, int]:
        """Not counted here."""
        return {}


def heard(told: Told) -> Observed:
    """What a cell has observed. Raises Diverged, RunFailed."""
    if told.diverged is not None:
        raise Diverged(told.diverged)
    if told.observed is None:
        raise RunFailed(told.error or "", told.trace)
    return told.observed


@contextlib.asynccontextmanager
async def open_sim_ground(work: Work, lane: int) -> AsyncIterator[SimGround]:
    """Start the process and its server; ended on leaving, and by the kernel if we are. Raises ServerError."""
    cores = sorted(os.sched_getaffinity(0))
    work.logs.mkdir(parents=True, exist_ok=True)
    log = work.logs / f"cell-{lane}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "duress.scenarios.sim.cell", str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": search_path()},
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
    assert process.stdin is not None
    opening = Opening(
        reference=work.reference,
        canary=work.canary,
        options=dict(work.options),
        settings=work.settings,
        simulating=work.simulating,
        core=cores[lane % len(cores)],
    )
    try:
        try:
            opened = await exchange(process, opening, Opened)
        except EOFError:
            await process.wait()
            raise ServerError(f"the simulation cannot start:\n{log.read_text(errors='replace')[-2000:]}") from None
        if opened.refused is not None:
            raise ServerError(opened.refused)
        yield SimGround(process, opened.postgres, work.simulating.twice_every)
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()  # its server ends by itself
        await process.wait()
