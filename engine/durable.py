"""Durable calls that are not functions of the user's: `sleep` and `race`."""

import math
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from .errors import ConfigurationError, NotInWorkflow
from .scope import Scope, current_scope


async def sleep(duration: float | timedelta) -> None:
    """Sleep durably: the end is fixed when the sleep is first reached, by the database's clock, and survives crashes.

    `duration` in seconds. A long sleep unwinds the workflow's code and holds nothing meanwhile. Raises ConfigurationError
    for a duration that is negative or not finite, NotInWorkflow outside a workflow.
    """
    scope = _scope("sleep()")
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ConfigurationError(f"sleep({duration!r}) will not do: give a finite number of seconds, not negative")
    await scope.execution.sleeping.sleep(scope, seconds)


async def race(*coroutines: Coroutine[Any, Any, Any]) -> tuple[int, Any]:
    """Run coroutines at once; return the position and the result of the first to end, and cancel the others.

    Which one won is recorded, so that a replay does not ask the clock again. The winner's exception is raised. A step of a
    loser may have run without being recorded.
    """
    try:
        scope = _scope("race()")
        if not coroutines:
            raise ConfigurationError("race() needs at least one coroutine")
    except BaseException:
        for coroutine in coroutines:
            coroutine.close()
        raise
    return await scope.execution.race(scope, coroutines)


def _scope(what: str) -> Scope:
    scope = current_scope()
    if scope is None:
        raise NotInWorkflow(f"{what} was called outside a workflow, or inside a step's body")
    return scope
