"""Scenarios by name: the ones that come with duress, and a user's own as `package.module:name`."""

import importlib
import os
import sys
from typing import Final

from duress.scenarios.spec import Scenario

BUILT_IN: Final = {
    "payments": "duress.scenarios.library.payments:payments",
}


class UnknownScenario(LookupError):
    """No scenario of that name; the message says what there is."""


def names() -> tuple[str, ...]:
    """The names of the scenarios that come with duress, sorted."""
    return tuple(sorted(BUILT_IN))


def find(reference: str) -> Scenario:
    """The scenario called `reference`. Raises UnknownScenario.

    A user's own is looked for in the current folder too.
    """
    module, separator, name = BUILT_IN.get(reference, reference).partition(":")
    if not separator:
        raise UnknownScenario(f"no scenario is called {reference!r}. {_what_there_is()}")
    if "" not in sys.path:
        sys.path.append("")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise UnknownScenario(
            f"scenario {reference!r}: there is no module {error.name!r}. {_what_there_is()}"
        ) from error
    except AttributeError as error:
        raise UnknownScenario(f"scenario {reference!r}: {module} has no {name!r}. {_what_there_is()}") from error
    if not isinstance(found, Scenario):
        raise UnknownScenario(
            f"scenario {reference!r} is {type(found).__name__}, not duress.scenarios.spec.Scenario. {_what_there_is()}"
        )
    return found


def load(reference: str) -> Scenario:
    """The scenario called `reference`, with its workflows registered in this process."""
    scenario = find(reference)
    importlib.import_module(scenario.module)
    return scenario


def reference_of(scenario: Scenario | str) -> str:
    """The name by which another process finds the scenario. Raises UnknownScenario if there is none."""
    if isinstance(scenario, str):
        return scenario
    for name in BUILT_IN:
        if find(name) is scenario:
            return name
    module = sys.modules.get(scenario.module)
    for name, value in vars(module).items() if module is not None else ():
        if value is scenario:
            return f"{scenario.module}:{name}"
    raise UnknownScenario(
        f"scenario {scenario.name!r}: each worker imports {scenario.module!r}, and no name there is this scenario; "
        "assign it to a name at the top of the module in `Scenario(module=…)`"
    )


def search_path() -> str:
    """PYTHONPATH for a process of ours, so that it finds whatever can be imported here."""
    return os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))


def _what_there_is() -> str:
    return f"There is: {', '.join(names())}; your own is given as package.module:name"
