"""Scenarios, the worlds in which they run, and the judgement of what happened.

A scenario of one's own needs the names exported here; they are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duress.scenarios import receiver
    from duress.scenarios.rare import Rare
    from duress.scenarios.spec import Scenario, World

__all__ = ["Rare", "Scenario", "World", "receiver"]


def __getattr__(name: str) -> Any:
    if name == "receiver":
        return import_module("duress.scenarios.receiver")
    if name in __all__:
        return getattr(import_module("duress.scenarios.spec"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
