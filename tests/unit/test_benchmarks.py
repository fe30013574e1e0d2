"""The benchmarks' arithmetic: what they print must follow from what was counted, and a run that says nothing must say so."""

import itertools
import math

import pytest

from benchmarks.peers_part import void_reasons
from benchmarks.protocol import Answer, Countdown, Job, time_drains
from benchmarks.ratios import with_ratios
from benchmarks.result import (
    Bench,
    Engines,
    Kill,
    Limit,
    Mode,
    Sequential,
    Throughput,
    latency,
    quantile,
    summarise_kills,
)


def job(seconds: float = 10.0) -> Job:
    return Job("", "concurrent", "any", seconds, concurrency=64, steps=10, out="")


def engines(duress: float, dbos: float, absurd: float, pgbench: float) -> Engines:
    def at_once(rate: float) -> Throughput:
        return Throughput(version="1", setup="any", steps=1, seconds=1.0, steps_per_s=rate, rows_counted=1)

    one_by_one = Sequential(setup="any", step=latency([3.0]), insert=latency([2.0]))
    return Engines(
        limit=Limit(clients=16, runs_per_s=[pgbench], rows_counted=1, inserts_per_s=pgbench),
        throughput={"duress": at_once(duress), "dbos": at_once(dbos), "absurd": at_once(absurd)},
        sequential={"duress": one_by_one, "dbos": one_by_one, "absurd": one_by_one},
    )


def bench(figures: Engines) -> Bench:
    mode = Mode(fsync=False, postgres="18", storage="tmpfs", settings={}, engines=figures)
    return with_ratios(
        Bench(started_at="", cores=2, load_at_start=0.0, seconds_per_engine=10.0, fsync_off=mode, fsync_on=None)
    )


def test_a_timed_drain_lasts_at_least_as_long_as_asked_and_every_drain_is_accounted_for() -> None:
    drained: list[int] = []
    rate = itertools.chain([100.0] * 3, itertools.repeat(400.0))  # the engine is faster once it is warm

    def drain(workflows: int) -> float:
        drained.append(workflows)
        return workflows / next(rate)

    answer = Answer("any", "1")
    time_drains(job(), answer, drain)
    assert answer.seconds >= 10.0
    assert answer.steps == drained[-1] * 10
    assert answer.rows_expected == sum(drained) * 10


def test_a_rate_that_never_settles_is_an_error_and_not_a_short_measurement() -> None:
    seconds = itertools.chain([2.0], itertools.repeat(1.0))
    with pytest.raises(RuntimeError, match="no drain lasted"):
        time_drains(job(), Answer("any", "1"), lambda _: next(seconds))


def test_a_lost_workflow_is_an_error() -> None:
    countdown = Countdown(2)
    countdown.body_ended()
    with pytest.raises(TimeoutError, match="1 workflows did not end"):
        countdown.wait(0.0)


def test_the_ratios_follow_from_the_figures() -> None:
    found = bench(engines(duress=12_000, dbos=300, absurd=1_000, pgbench=50_000))
    assert found.void == []
    assert found.steps_per_s == 12_000
    assert found.steps_vs_dbos == 40
    assert found.steps_vs_absurd == 12
    assert found.steps_vs_pgbench == pytest.approx(0.24)
    assert found.sequential_vs_insert == 1.5
    assert found.kill_to_first_ms_p50 is None  # a part that was not run


@pytest.mark.parametrize(("dbos", "absurd", "void"), [(199, 750, ["dbos"]), (200, 749, ["absurd"]), (200, 750, [])])
def test_a_run_with_a_crippled_peer_is_void(dbos: float, absurd: float, void: list[str]) -> None:
    reasons = void_reasons(engines(10_000, dbos, absurd, 50_000), "here")
    assert len(reasons) == len(void)
    assert all(name in reason for name, reason in zip(void, reasons, strict=True))


def test_a_quantile_is_an_observation_with_the_share_at_or_below_it() -> None:
    sample = [float(value) for value in range(1, 101)]
    assert quantile(sample, 0.95) == 95.0
    assert quantile(sample, 1.0) == 100.0
    assert quantile([7.0], 0.5) == 7.0


def test_a_kill_that_nobody_recovered_from_counts_as_the_longest() -> None:
    kills = [
        Kill(
            victims=[1],
            in_flight=60,
            affected=[9],
            first_ms=first,
            first_of_any_ms=first,
            noticed_ms=None,
            reason="lock",
        )
        for first in [*(float(value) for value in range(1, 60)), math.inf]
    ]
    found = summarise_kills(kills)
    assert found.n == 60
    assert found.p50_ms == 30.5
    assert found.longest_ms == math.inf
    assert found.p95_bound_ms == math.inf  # with n = 60 the bound is the greatest observation
