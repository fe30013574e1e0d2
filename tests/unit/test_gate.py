"""What the gate may conclude from a sample: no miss, no regression and no pass by chance or by too few observations."""

import math
import random
from pathlib import Path

import msgspec
import pytest
from scipy.stats import binom
from synthetic_campaign import campaign

from duress.reports import statistics
from duress.reports.gate import LimitsError, judge, read_limits
from duress.reports.gate.checks import of_quantile
from duress.reports.gate.compare import ALPHA, compared, holm
from duress.reports.gate.limits import Baseline
from duress.reports.summary import Sample, summarise
from duress.scenarios.result import Campaign, FaultRecord, Recovery, Run


def sample(*values: float) -> Sample:
    return Sample("first", tuple(sorted(values)), 0)


def recovered(values: list[float], kind: str = "pause-worker") -> Campaign:
    """A campaign of nothing but these recoveries."""
    faults = tuple(
        FaultRecord(kind=kind, worker=0, trigger="t", effect=1.0, recovery=Recovery(first=value, affected=1))
        for value in values
    )
    return msgspec.structs.replace(campaign(runs=1), runs=(Run(seed=1, verdict="pass", faults=faults),))


@pytest.mark.parametrize(
    ("n", "quantile", "state"),
    [
        *((5, "p50", "undecided"), (6, "p50", "kept"), (58, "p95", "undecided"), (59, "p95", "kept")),
        *((298, "p99", "undecided"), (299, "p99", "kept")),
    ],
)
def test_a_percentile_needs_its_number_of_observations(n: int, quantile: str, state: str) -> None:
    finding = of_quantile("x", sample(*[0.1] * n), quantile, 0.2)
    assert finding.state == state
    assert (f"n too small: {n} of" in finding.seen) is (state == "undecided")


def test_between_the_bounds_nothing_is_decided() -> None:
    values = [0.1 + 0.01 * step for step in range(20)]
    low, high = statistics.median_interval(values).low, statistics.median_interval(values).high  # type: ignore[union-attr]
    assert of_quantile("x", sample(*values), "p50", high).state == "kept"
    assert of_quantile("x", sample(*values), "p50", high - 1e-6).state == "undecided"
    assert of_quantile("x", sample(*values), "p50", low).state == "undecided"
    assert of_quantile("x", sample(*values), "p50", low - 1e-6).state == "missed"


def test_what_was_not_seen_counts_as_longer_than_any_limit() -> None:
    mostly = of_quantile("x", sample(*[0.01] * 2, *[math.inf] * 10), "p50", 60.0)
    assert mostly.state == "missed" and mostly.seen == "mostly not seen (95 %), n = 12, 10 not seen"
    assert of_quantile("x", sample(*[0.01] * 59, math.inf), "p95", 1.0).state == "undecided"


def test_few_observations_can_show_a_miss_though_they_cannot_show_the_opposite() -> None:
    assert of_quantile("x", sample(*[3.0] * 8), "p95", 1.0).state == "missed"


@pytest.mark.parametrize("n", [1, 7, 20, 59, 120, 300])
@pytest.mark.parametrize("quantile", [0.5, 0.95, 0.99])
def test_the_lower_bound_is_a_bound_and_the_greatest_one(n: int, quantile: float) -> None:
    """Its rank k is the greatest with P(X_k above the quantile) = P(Binomial(n, q) < k) <= 5 %."""
    bound = statistics.lower_bound([float(value) for value in range(1, n + 1)], quantile)
    ranks = [k for k in range(1, n + 1) if binom.cdf(k - 1, n, quantile) <= 0.05 + 1e-12]
    assert bound == (float(max(ranks)) if ranks else None)


def test_holm_is_the_textbook_s() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def lease_pauses(randomness: random.Random, lease: float, n: int) -> list[float]:
    """A paused worker is noticed when its lease ends, which was renewed up to a quarter of it ago."""
    return [lease - randomness.uniform(0.0, lease / 4) + randomness.lognormvariate(-4.5, 0.6) for _ in range(n)]


def test_leases_of_500_and_600_ms_are_told_apart_by_60_pauses_a_side() -> None:
    randomness = random.Random(7)
    for _ in range(20):
        then, now = (recovered(lease_pauses(randomness, lease, 60)) for lease in (0.5, 0.6))
        [finding] = compared(summarise(now), summarise(then), Baseline(phases=("first",)))
        assert finding.state == "missed", finding.seen
        [finding] = compared(summarise(then), summarise(now), Baseline(phases=("first",)))
        assert finding.state == "kept" and "faster" in finding.seen


def test_an_unchanged_build_is_hardly_ever_called_slower() -> None:
    randomness = random.Random(11)
    flagged = 0
    for _ in range(200):
        kinds = ("pause-worker", "kill-worker", "stop-worker")
        sides = [
            summarise(
                msgspec.structs.replace(
                    campaign(runs=1),
                    runs=tuple(recovered(lease_pauses(randomness, 0.5, 60), kind).runs[0] for kind in kinds),
                )
            )
            for _ in range(2)
        ]
        found = list(compared(sides[0], sides[1], Baseline(phases=("first",), minimum_effect=0.0, minimum_seconds=0.0)))
        assert len(found) == 3
        flagged += any(finding.state == "missed" for finding in found)
    assert flagged <= 200 * ALPHA


def test_a_longer_tail_alone_is_no_slower_median() -> None:
    """Mann-Whitney sees that the slow half became slower; where the middle lies is not known well enough to say so."""
    then = [0.1 + 0.1 * step / 59 for step in range(60)]
    now = then[:30] + [0.3 + value for value in then[30:]]
    [finding] = compared(summarise(recovered(now)), summarise(recovered(then)), Baseline(phases=("first",)))
    assert finding.state == "kept" and "medians' intervals overlap" in finding.seen, finding.seen


def test_one_odd_kind_among_sixty_is_chance() -> None:
    """Six recoveries that are all slower have p = 1/924: striking in one comparison, expected in so many."""

    def side(odd: float) -> Campaign:
        kinds = [f"kind-{number:02}" for number in range(60)]
        runs = [
            recovered([0.1 * step * (odd if kind == "kind-07" else 1) for step in range(1, 7)], kind).runs[0]
            for kind in kinds
        ]
        return msgspec.structs.replace(campaign(runs=1), runs=tuple(runs))

    states = {finding.limit: finding for finding in compared(summarise(side(10.0)), summarise(side(1.0)), Baseline())}
    assert states["baseline.kind-07.first"].state == "kept", states["baseline.kind-07.first"].seen
    one = Baseline(phases=("first",), kinds=("kind-07",))
    [alone] = compared(summarise(side(10.0)), summarise(side(1.0)), one)
    assert alone.state == "missed"


def test_a_change_that_nobody_would_notice_is_none() -> None:
    now, then = (recovered([base + step * 1e-5 for step in range(60)]) for base in (0.1020, 0.1))
    [finding] = compared(summarise(now), summarise(then), Baseline(phases=("first",)))
    assert finding.state == "kept" and "too small a change to matter" in finding.seen
    [finding] = compared(
        summarise(now), summarise(then), Baseline(phases=("first",), minimum_effect=0.01, minimum_seconds=0.001)
    )
    assert finding.state == "missed"


def test_a_kind_with_too_few_on_either_side_is_undecided() -> None:
    few, many = summarise(recovered([0.1] * 5)), summarise(recovered([0.1] * 60))
    for now, then in ((few, many), (many, few)):
        [finding] = compared(now, then, Baseline(phases=("first",)))
        assert finding.state == "undecided" and "n too small" in finding.seen
    none = msgspec.structs.replace(campaign(runs=1), runs=())
    assert [one.state for one in compared(summarise(none), summarise(none), Baseline())] == ["undecided"]


def test_a_limit_for_all_kinds_gives_way_to_a_kind_s_own(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text('[recovery.all.first]\np50 = "1 min"\n[recovery.pause-worker.first]\np50 = 0.001\n')
    gate = judge(campaign(runs=60), read_limits(file), limits_name="limits.toml")
    recoveries = [finding for finding in gate.findings if finding.limit.startswith("recovery")]
    states = {finding.limit: finding.state for finding in recoveries}
    assert len(recoveries) == len(states), "none is judged twice"
    assert states.pop("recovery.pause-worker.first.p50") == "missed"
    assert set(states.values()) == {"kept"} and len(states) == 5
    assert gate.state == "missed"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LimitsError, match=r"nowhere\.toml cannot be read: No such file"):
        read_limits(tmp_path / "nowhere.toml")


def test_the_longest_window_and_wasted_work_are_measured_over_all_runs(tmp_path: Path) -> None:
    green = campaign(runs=10)
    longest = max(stall for run in green.runs for stall in run.stalls)
    each = sum(run.bodies_rerun for run in green.runs) / sum(fault.fired for run in green.runs for fault in run.faults)
    file = tmp_path / "limits.toml"
    for room, states in ((1.001, {"kept"}), (0.999, {"missed"})):
        file.write_text(f"[progress]\nlongest-window = {longest * room}\n[waste]\nreruns-per-fault = {each * room}\n")
        gate = judge(green, read_limits(file), limits_name="x")
        found = {finding.state for finding in gate.findings if finding.limit.startswith(("progress", "waste"))}
        assert found == states
