"""What a run of the benchmarks found: `.duress/bench.json`.

The keys that a gate reads are at the top level and mean the run with fsync off; everything behind them, and the run
with fsync on, is nested. A part that was not run is null, and so is an infinite figure (a kill that nobody recovered
from). `void` says why figures may not be used; it is empty for a sound run.
"""

import math
from pathlib import Path

import msgspec

from benchmarks.protocol import Answer
from duress.reports import statistics

BENCH_VERSION = 1


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Throughput(Struct, frozen=True, kw_only=True):
    """64 workflows of 10 steps at once, in one process."""

    version: str
    setup: str
    steps: int
    seconds: float
    steps_per_s: float
    rows_counted: int  # in the engine's own table: all that its driver ran, the warm-up included
    setups_tried: dict[str, float] = {}  # set-up → steps/s of a short trial


class Latency(Struct, frozen=True, kw_only=True):
    """One operation after another, by the caller's clock."""

    n: int
    median_ms: float
    median_low_ms: float | None
    median_high_ms: float | None
    mean_ms: float
    p95_ms: float


class Sequential(Struct, frozen=True, kw_only=True):
    """One workflow at a time."""

    setup: str
    step: Latency
    # Prepared INSERTs in turns with the steps, in the same process; only beside our own.
    insert: Latency | None = None  # pgbench's
    row_insert: Latency | None = None  # of a checkpoint's row, with its columns and its key


class Limit(Struct, frozen=True, kw_only=True):
    """pgbench's single INSERT, before and after the engines."""

    clients: int
    runs_per_s: list[float]
    rows_counted: int
    inserts_per_s: float  # the mean of the runs


class Kill(Struct, frozen=True, kw_only=True):
    """One kill: of one worker, or of two ring neighbours at once."""

    victims: list[int]  # incarnations
    in_flight: int
    affected: list[int]  # workflows each victim owned
    first_ms: float  # kill() → first new checkpoint; of two victims the later, so that nobody's wait is hidden
    first_of_any_ms: float  # of two victims the earlier
    noticed_ms: float | None  # kill() → the last victim is declared dead
    reason: str  # how: "lock" or "lease"


class Kills(Struct, frozen=True, kw_only=True):
    """SIGKILL to first new checkpoint."""

    n: int
    p50_ms: float
    p50_low_ms: float | None
    p50_high_ms: float | None
    p95_ms: float
    p95_bound_ms: float | None  # upper bound at 95 % confidence; needs n >= 59
    longest_ms: float
    p50_single_ms: float | None
    p50_double_ms: float | None
    p50_of_any_ms: float
    p50_noticed_ms: float | None
    kills: list[Kill]


class Claim(Struct, frozen=True, kw_only=True):
    """One way of claiming on 1,000 pending workflows: in a fresh schema, and after the completed ones."""

    call: str
    statistic: str  # "median" or "mean", of the milliseconds below
    n_fresh: int
    n_after: int
    fresh_ms: float
    after_ms: float
    slowdown: float


class Claims(Struct, frozen=True, kw_only=True):
    """Claiming before and after a history."""

    completed: int
    pending: int
    snapshot_held: bool
    completed_in_s: float
    dead_rows: int  # of the narrow table, when it was measured again
    claims: list[Claim]  # the first one counts


class Trips(Struct, frozen=True, kw_only=True):
    """Statements counted by the server (pg_stat_statements), those of an idle worker taken off."""

    start: float
    claim: float  # per workflow, one at a time
    step: float
    transaction_step: float  # its own single SQL statement included
    complete: float
    step_at_64: float
    start_at_64: float
    complete_at_64: float
    idle_per_s: float
    statements: dict[str, dict[str, int]]  # measurement → statement → calls


class Engines(Struct, frozen=True, kw_only=True):
    """The peers part on one server."""

    limit: Limit
    throughput: dict[str, Throughput]
    sequential: dict[str, Sequential]


class Mode(Struct, frozen=True, kw_only=True):
    """Everything measured on one server."""

    fsync: bool
    postgres: str
    storage: str  # file system of the data directory
    settings: dict[str, str]
    engines: Engines | None = None
    kills: Kills | None = None
    claims: list[Claims] = []
    trips: Trips | None = None


class Bench(Struct, frozen=True, kw_only=True):
    """One run."""

    version: int = BENCH_VERSION
    started_at: str
    cores: int
    load_at_start: float  # of the last minute; other work on the machine makes all figures doubtful
    seconds_per_engine: float
    void: list[str] = []
    steps_per_s: float | None = None
    steps_vs_dbos: float | None = None
    steps_vs_absurd: float | None = None
    steps_vs_pgbench: float | None = None
    sequential_vs_insert: float | None = None
    kill_to_first_ms_p50: float | None = None
    kill_to_first_ms_p95: float | None = None
    claim_slowdown_100k: float | None = None
    claim_slowdown_100k_snapshot: float | None = None
    fsync_off: Mode | None = None
    fsync_on: Mode | None = None


def latency(sample_ms: list[float]) -> Latency:
    """A summary of at least one observation."""
    ordered = sorted(sample_ms)
    interval = statistics.median_interval(ordered)
    return Latency(
        n=len(ordered),
        median_ms=statistics.median(ordered),
        median_low_ms=interval.low if interval else None,
        median_high_ms=interval.high if interval else None,
        mean_ms=sum(ordered) / len(ordered),
        p95_ms=quantile(ordered, 0.95),
    )


def quantile(sample: list[float], q: float) -> float:
    """The smallest observation with at least the share `q` at or below it."""
    ordered = sorted(sample)
    return ordered[max(0, math.ceil(len(ordered) * q) - 1)]


def throughput(answer: Answer, tried: dict[str, float]) -> Throughput:
    """Of a concurrent answer whose rows were counted."""
    return Throughput(
        version=answer.version,
        setup=answer.setup,
        steps=answer.steps,
        seconds=answer.seconds,
        steps_per_s=answer.steps / answer.seconds,
        rows_counted=answer.rows_expected,
        setups_tried=tried,
    )


def sequential(answer: Answer) -> Sequential:
    """Of a sequential answer."""
    return Sequential(
        setup=answer.setup,
        step=latency(answer.latencies_ms),
        insert=latency(answer.insert_latencies_ms) if answer.insert_latencies_ms else None,
        row_insert=latency(answer.row_insert_latencies_ms) if answer.row_insert_latencies_ms else None,
    )


def summarise_kills(kills: list[Kill]) -> Kills:
    """Median with its interval, p95 with its bound; a kill that nobody recovered from counts as infinite."""
    firsts = [kill.first_ms for kill in kills]
    interval = statistics.median_interval(firsts)
    return Kills(
        n=len(kills),
        p50_ms=statistics.median(firsts),
        p50_low_ms=interval.low if interval else None,
        p50_high_ms=interval.high if interval else None,
        p95_ms=quantile(firsts, 0.95),
        p95_bound_ms=statistics.upper_bound(firsts, 0.95),
        longest_ms=max(firsts),
        p50_single_ms=_median_or_none([kill.first_ms for kill in kills if len(kill.victims) == 1]),
        p50_double_ms=_median_or_none([kill.first_ms for kill in kills if len(kill.victims) > 1]),
        p50_of_any_ms=statistics.median([kill.first_of_any_ms for kill in kills]),
        p50_noticed_ms=_median_or_none([kill.noticed_ms for kill in kills if kill.noticed_ms is not None]),
        kills=kills,
    )


def _median_or_none(sample: list[float]) -> float | None:
    return statistics.median(sample) if sample else None


def save(bench: Bench, path: Path) -> None:
    """Write the file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(bench), indent=2) + b"\n")
    temporary.replace(path)
