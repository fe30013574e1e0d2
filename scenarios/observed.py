"""What a world hands over after one run: all that is needed to judge it, and nothing that is specific to the world."""

from collections.abc import Mapping
from dataclasses import dataclass

from duress.scenarios.history import Evidence
from duress.scenarios.result import Divergence, FaultRecord

Exchange = tuple[float, str, int, str, int]  # see duress.simulator.Exchange
Happening = tuple[int, str, str, str, int]  # see duress.simulator.Entry


@dataclass(frozen=True, slots=True)
class Observed:
    """One run, not judged yet. `seconds` is the whole run's wall time, start and end of the processes included."""

    evidence: Evidence
    faults: tuple[FaultRecord, ...]  # in the plan's order
    seconds: float
    doubts: tuple[str, ...]  # why this run may prove little, beside planned faults that did not fire
    simulated: "Simulated | None" = None


@dataclass(frozen=True, slots=True)
class Simulated:
    """What only a simulated run has. `hash` is over all that happened, `code` over the sources that ran."""

    hash: str
    code: str
    twice: bool  # it was run twice, and was the same
    trace: tuple[Happening, ...] = ()
    exchanges: tuple[
        Exchange, ...
    ] = ()  # with the trace: those that began after the workload, in the order of their ends
    server_log: str = ""  # as PostgreSQL wrote it in this run, if that was wanted
    choices: Mapping[str, tuple[int, ...]] | None = None  # every decision, by stream; with the trace, or if asked for
    misfits: int = 0  # recorded decisions that it was to repeat and could not: there were fewer possibilities
    pieces: tuple[int, ...] = ()  # of the workload, by number, as far as it tells them
    began: float = 0.0  # when the workload did, in seconds of the run's clock, which exchanges are timed by


class Diverged(Exception):
    """A run was not the same the second time."""

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(divergence.message)
        self.divergence = divergence


class RunFailed(Exception):
    """The simulation itself failed, or stands still for ever; the message is its traceback."""

    def __init__(self, text: str, trace: tuple[Happening, ...] = ()) -> None:
        super().__init__(text)
        self.trace = trace


class CellEnded(RunFailed):
    """The process that simulates is gone, and every later run of it fails too."""
