"""A campaign's side of a simulating process: one for each lane, each on a core of its own."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from duress.faults.plan import Plan
from duress.faults.postgres import ServerError
from duress.scenarios.observed import CellEnded, Diverged, Observed, RunFailed
from duress.scenarios.registry import search_path
from duress.scenarios.sim.wire import Ask, Opened, Opening, Told, Variation, exchange
from duress.scenarios.work import Work

RUNS = 250  # of one process: what killed simulated processes leave in it stays there, about 1 MB a run


class SimGround:
    """Ready for runs, one after the other."""

    def __init__(self, work: Work, lane: int) -> None:
        """`open_sim_ground` is how to get one."""
        self._work, self._lane = work, lane
        self._process: asyncio.subprocess.Process | None = None
        self._runs = 0
        self.postgres = ""

    async def observe(self, seed: int, plan: Plan) -> Observed:
        """One run; a sample of them twice. Raises Diverged if that is not the same, RunFailed."""
        every = self._work.simulating.twice_every
        return await self._ask(Ask(seed=seed, plan=plan, twice=every > 0 and seed % every == 1 % every))

    async def vary(self, seed: int, plan: Plan, variation: Variation) -> Observed:
        """One run that is sized and decided in its own way. Raises RunFailed; CellEnded if there can be no other run."""
        return await self._ask(Ask(seed=seed, plan=plan, variation=variation))

    async def _ask(self, ask: Ask) -> Observed:
        if self._runs >= RUNS:
            await self.close()
            await self.open()
        self._runs += 1 + ask.twice
        assert self._process is not None
        try:
            told = await exchange(self._process, ask, Told)
        except EOFError:
            raise CellEnded(f"the simulating process ended ({await self._process.wait()})") from None
        return heard(told)

    async def open(self) -> None:
        """Start the process and its server. Raises ServerError."""
        work, cores = self._work, sorted(os.sched_getaffinity(0))
        work.logs.mkdir(parents=True, exist_ok=True)
        log = work.logs / f"cell-{self._lane}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "duress.scenarios.sim.cell", str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": search_path()},
                start_new_session=True,  # Ctrl-C is ours to pass on
            )
        self._process, self._runs = process, 0
        opening = Opening(
            reference=work.reference,
            canary=work.canary,
            options=dict(work.options),
            settings=work.settings,
            simulating=work.simulating,
            core=cores[self._lane % len(cores)],
        )
        try:
            opened = await exchange(process, opening, Opened)
        except EOFError:
            await process.wait()
            raise ServerError(f"the simulation cannot start:\n{log.read_text(errors='replace')[-2000:]}") from None
        if opened.refused is not None:
            raise ServerError(opened.refused)
        self.postgres = opened.postgres

    async def close(self) -> None:
        """End the process; its server ends by itself."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def save_messages(self, folder: Path) -> None:
        """A simulated run is its own record."""

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
    """Its process and server are ended on leaving, and by the kernel if we are. Raises ServerError."""
    ground = SimGround(work, lane)
    try:
        await ground.open()
        yield ground
    finally:
        await ground.close()
