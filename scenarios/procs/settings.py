"""How a run in the procs world is sized and paced."""

from dataclasses import dataclass


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
