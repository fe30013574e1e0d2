"""duress: durable execution on PostgreSQL, and the harness that proves that it survives.

The names here are imported when they are first used: `import duress` alone loads neither psycopg nor anything else heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duress.engine import (
        Engine,
        Handle,
        Retry,
        WorkerOptions,
        always,
        current,
        durable_error,
        errors,
        race,
        reachable,
        sleep,
        sometimes,
        step,
        transaction,
        workflow,
    )
    from duress.pytest_plugin.subject import test
    from duress.strategies import plans, workloads

__all__ = [
    "Engine",
    "Handle",
    "Retry",
    "WorkerOptions",
    "always",
    "current",
    "durable_error",
    "errors",
    "plans",
    "race",
    "reachable",
    "sleep",
    "sometimes",
    "step",
    "test",
    "transaction",
    "workflow",
    "workloads",
]
# What is not the engine's → the module that has it.
_ELSEWHERE = {
    "plans": "duress.strategies",
    "test": "duress.pytest_plugin.subject",
    "workloads": "duress.strategies",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(import_module(_ELSEWHERE[name]), name)
    if name in __all__:
        return getattr(import_module("duress.engine"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
