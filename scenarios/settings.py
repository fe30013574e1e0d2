"""How a run is sized and paced, and how it is simulated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from duress.faults.bounds import Bounds, Place

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
    most_faults: int = 6  # in one drawn plan
    earliest: float = 0.2  # the first moment of a drawn fault that is to come at a time,
    horizon: float = 3.0  # and the last
    last_occurrence: int = 6  # of a point, for one that is to come there
    respawn: float = 0.5  # what a started worker needs at most to have work again, beside its lease
    calm_after_outage: float = 1.0
    # New work is started for as long as a fault is not yet so; or only what is wanted, whatever is planned.
    until: Literal["healed", "injected", "wanted"] = "healed"
    only: tuple[int, ...] | None = None  # the pieces of the workload that are not left out, by number; None: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulating:
    """How the runs of one cell are simulated. `choices` are recorded ones, which then decide instead of the seed."""

    scheduler: str = SCHEDULER
    choices: Mapping[str, tuple[int, ...]] | None = None
    twice_every: int = TWICE_EVERY  # seeds: so large a sample is run twice, and must be the same to the byte; 0 is none
    trace: bool = False  # keep everything that happens
    decisions: bool = False  # tell every decision, though there is no trace
    fresh: bool = False  # every run in a new copy of the database, not only the second of two
    server: Mapping[str, str] = field(default_factory=dict)  # further settings of PostgreSQL
    server_log: bool = False  # keep what PostgreSQL writes to its log during each run


USUAL: Mapping[str, Settings] = {
    "procs": Settings(),
    "docker": Settings(max_time=40.0, calm=30.0, respawn=4.0),  # a container takes its time to come
    # A simulated run is small: many of them find more than few large ones.
    "sim": Settings(
        workers=3,
        lease=0.3,
        heartbeat=0.15,
        poll=0.2,
        most_faults=4,
        earliest=0.01,
        horizon=0.2,
        last_occurrence=3,
        respawn=0.02,
        calm_after_outage=0.1,
        until="injected",
    ),
}


def bounds_of(settings: Settings, kinds: Mapping[str, float], places: Sequence[Place]) -> Bounds:
    """What plans for such a run are drawn within."""
    return Bounds(
        workers=settings.workers,
        lease=settings.lease,
        earliest=settings.earliest,
        horizon=settings.horizon,
        respawn=settings.respawn,
        calm_after_outage=settings.calm_after_outage,
        kinds=kinds,
        places=tuple(places),
        most_events=settings.most_faults,
        last_occurrence=settings.last_occurrence,
    )
