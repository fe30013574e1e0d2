"""What the code under test says of itself, on its way into the history."""

from collections.abc import Callable, Mapping

from duress.engine.assertions import Kind
from duress.scenarios import history


class Once:
    """A listener that passes on each text once, and every time that something did not hold. `tell` gets name and facts."""

    def __init__(self, tell: Callable[[str, Mapping[str, str | bool]], object]) -> None:
        self._tell = tell
        self._told: set[tuple[Kind, str]] = set()

    def __call__(self, kind: Kind, what: str, holds: bool) -> None:
        if not holds or (kind, what) not in self._told:
            self._told.add((kind, what))
            self._tell(history.ALWAYS if kind == "always" else history.SOMETIMES, {"what": what, "holds": holds})
