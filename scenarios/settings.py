"""How a run is sized and paced, and how it is simulated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SCHEDULER: Final = "random"  # the usual one, by its name in duress.simulator.SCHEDULERS
TWICE_EVERY: Final = 10  # seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Durations are seconds. The short lease makes takeovers happen within a run; production's default is longer."""

    workers: int = 4
    concurrency: int = 6  # workflows at a time, per worker: so few that each worker has its share, a new one too
    lease: float = 1.0
    heartbeat: float = 0.25
    poll: float = 0.25
    max_time: float = 20.0  # for the workload and the faults; what has not fired by then never did
    calm: float = 15.0  # for everything accepted to finish, once the faults have healed
    schema: str = "duress"
    queue: str = "default"
    horizon: float = 3.0  # the last moment of a drawn fault that is to come at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulating:
    """How the runs of one cell are simulated. `choices` are recorded ones, which then decide instead of the seed."""

    scheduler: str = SCHEDULER
    choices: Mapping[str, tuple[int, ...]] | None = None
    twice_every: int = TWICE_EVERY  # seeds: so large a sample is run twice, and must be the same to the byte; 0 is none
    trace: bool = False  # keep everything that happens
    fresh: bool = False  # every run in a new copy of the database, not only the second of two
    server: Mapping[str, str] = field(default_factory=dict)  # further settings of PostgreSQL


# A simulated run is small: many of them find more than few large ones.
USUAL: Mapping[str, Settings] = {
    "procs": Settings(),
    "sim": Settings(workers=3, lease=0.3, heartbeat=0.1, poll=0.2, horizon=0.25),
}
