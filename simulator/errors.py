"""What can go wrong with a simulation itself. Everything derives from `SimulationError`."""


class SimulationError(Exception):
    """The simulation cannot go on, or was asked for something that it does not do."""


class Escape(SimulationError):
    """The program under simulation reached for the outside: a thread, a socket, a process, a signal.

    Raised at the call, which it names, with what to use instead. Nothing has happened yet.
    """

    def __init__(self, call: str, remedy: str) -> None:
        super().__init__(f"{call} leaves the simulation, and what it does could not be repeated: {remedy}")
        self.call = call
        self.remedy = remedy


class Stuck(SimulationError):
    """Nothing can run any more, no timer is set and no source has anything to do. `report` says who waits where."""

    def __init__(self, reason: str, report: list[str]) -> None:
        super().__init__("\n".join([reason, *report]))
        self.reason = reason
        self.report = report


class TokenError(SimulationError, ValueError):
    """A reproduction token that this version, or this Python, cannot repeat."""
