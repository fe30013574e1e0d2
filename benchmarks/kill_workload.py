"""The workflow of the kill benchmark, and the worker program that runs it: `python -m benchmarks.kill_worker`.

Many no-op steps with a short plain wait after each, so that fifty and more workflows stay in flight without loading
the machine. A step answered from its checkpoint is not waited for: a successor can write its first new checkpoint as
soon as it has reclaimed.
"""

import asyncio

from duress.engine import current, step, workflow

_ran: set[str] = set()  # workflows whose latest step ran its body here, and was not answered from its checkpoint


@step
async def tick(number: int) -> int:
    """Does nothing."""
    _ran.add(current().workflow_id)
    return number


@workflow
async def long_haul(own_id: str, steps: int, gap_s: float) -> int:
    """`steps` ticks, `gap_s` apart."""
    for number in range(steps):
        await tick(number)
        if own_id in _ran:
            _ran.discard(own_id)
            await asyncio.sleep(gap_s)
    return steps
