"""Workflows that real worker processes run in tests; their effects outside the engine are counted in `effect`."""

import asyncio
from typing import Any

from duress.engine import current, sleep, step, transaction, workflow

EFFECTS = "create table public.effect (workflow text, step text, epoch int, at timestamptz default clock_timestamp())"


@transaction
async def enter(tx: Any) -> int:
    await effect(tx)
    return current().epoch


@transaction
async def enter_slowly(tx: Any, seconds: float) -> int:
    await effect(tx)
    await tx.execute("select pg_sleep(%s)", [seconds if current().epoch == 1 else 0])
    return current().epoch


async def effect(tx: Any) -> None:
    about = current()
    await tx.execute(
        "insert into public.effect (workflow, step, epoch) values (%s, %s, %s)",
        [about.workflow_id, about.step_id, about.epoch],
    )


@step
async def note(value: int) -> int:
    return value


@step
async def waits(seconds: float) -> float:
    await asyncio.sleep(seconds if current().epoch == 1 else 0)
    return seconds


@workflow(name="process: transfer")
async def transfer(pause: float) -> int:
    await enter()
    await waits(pause)
    await sleep(0.01)
    await asyncio.gather(enter(), note(1))
    return await note(2)


@workflow(name="process: hostage")
async def hostage(seconds: float) -> int:
    return await enter_slowly(seconds)


@workflow(name="process: steps")
async def steps(count: int, pause: float = 0.0) -> int:
    for n in range(count):
        await note(n)
        await asyncio.sleep(pause)
    return count
