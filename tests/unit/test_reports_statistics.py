"""The intervals of reports agree with other implementations, cover what they promise, and refuse small samples."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from duress.reports import statistics

samples = st.lists(st.floats(min_value=0.0, max_value=1e4), min_size=1, max_size=120)


@settings(deadline=None)
@given(samples)
def test_median_is_the_textbooks(sample: list[float]) -> None:
    ordered = sorted(sample)
    middle = len(ordered) // 2
    exact = (
        Fraction(ordered[middle])
        if len(ordered) % 2
        else (Fraction(ordered[middle - 1]) + Fraction(ordered[middle])) / 2
    )
    assert statistics.median(sample) == pytest.approx(float(exact))


def test_median_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        statistics.median([])


def test_a_middle_that_was_not_seen_makes_the_median_infinite() -> None:
    assert statistics.median([1.0, math.inf]) == math.inf
    assert statistics.median([1.0, 2.0, math.inf]) == 2.0


@pytest.mark.parametrize(("n", "speaks"), [(0, False), (1, False), (5, False), (6, True), (7, True)])
def test_median_interval_needs_six(n: int, speaks: bool) -> None:
    assert (statistics.median_interval([float(i) for i in range(n)]) is not None) is speaks
    assert statistics.smallest_n_median() == 6


@pytest.mark.parametrize(("quantile", "needed"), [(0.95, 59), (0.99, 299)])
def test_upper_bound_needs_59_and_299(quantile: float, needed: int) -> None:
    assert statistics.smallest_n(quantile) == needed
    assert statistics.upper_bound([0.0] * (needed - 1), quantile) is None
    assert statistics.upper_bound([float(i) for i in range(needed)], quantile) == needed - 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(min_value=0.0, max_value=1e4), min_size=6, max_size=150, unique=True))
def test_median_interval_is_scipys(sample: list[float]) -> None:
    ours = statistics.median_interval(sample)
    theirs = stats.quantile_test(sample, p=0.5).confidence_interval(0.95)
    assert ours is not None
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert ours.low <= statistics.median(sample) <= ours.high


@settings(max_examples=60, deadline=None)
@given(st.integers(59, 700), st.sampled_from([0.95, 0.99]))
def test_upper_bound_is_scipys(n: int, quantile: float) -> None:
    sample = [float(i) for i in range(n)]
    theirs = stats.quantile_test(sample, p=quantile, alternative="less").confidence_interval(0.95).high
    ours = statistics.upper_bound(sample, quantile)
    assert ours == (None if math.isnan(theirs) else theirs)


@settings(deadline=None)
@given(st.lists(st.floats(min_value=0.0, max_value=1e4) | st.just(math.inf), min_size=1, max_size=80), st.randoms())
def test_order_does_not_matter(sample: list[float], shuffler: random.Random) -> None:
    mixed = list(sample)
    shuffler.shuffle(mixed)
    assert statistics.median(mixed) == statistics.median(sample)
    assert statistics.median_interval(mixed) == statistics.median_interval(sample)
    assert statistics.upper_bound(mixed, 0.95) == statistics.upper_bound(sample, 0.95)


@settings(deadline=None)
@given(st.lists(st.floats(min_value=0.0, max_value=1e4), min_size=6, max_size=80))
def test_what_was_not_seen_never_makes_recovery_look_faster(sample: list[float]) -> None:
    seen, with_unseen = statistics.median_interval(sample), statistics.median_interval([*sample, math.inf, math.inf])
    assert seen is not None
    assert with_unseen is not None
    assert with_unseen.low >= seen.low
    assert with_unseen.high >= seen.high


@pytest.mark.parametrize("n", [6, 17, 60])
def test_median_interval_covers_as_promised(n: int) -> None:
    randomness = random.Random(n)
    trials, truth, covered = 2000, 1.0, 0  # the median of a lognormal with mu = 0 is 1
    for _ in range(trials):
        interval = statistics.median_interval([randomness.lognormvariate(0, 1) for _ in range(n)])
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert covered / trials >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)


def test_band_covers_the_whole_curve_as_promised() -> None:
    randomness, n, trials, covered = random.Random(3), 20, 1500, 0
    half = statistics.dkw_half_width(n)
    for _ in range(trials):
        uniform = sorted(randomness.random() for _ in range(n))
        off = max(max((i + 1) / n - value, value - i / n) for i, value in enumerate(uniform))
        covered += off <= half
    assert covered / trials >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)
    with pytest.raises(ValueError, match="no observations"):
        statistics.dkw_half_width(0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_rate_interval_is_scipys(drawn: tuple[int, int]) -> None:
    events, n = drawn
    ours = statistics.rate_interval(events, n)
    theirs = stats.binomtest(events, n).proportion_ci(0.95, method="exact")
    assert ours is not None
    assert ours.low == pytest.approx(theirs.low)
    assert ours.high == pytest.approx(theirs.high)


def test_nothing_in_n_runs_bounds_the_rate_by_about_three_in_n() -> None:
    for n in (30, 100, 1000):
        interval = statistics.rate_interval(0, n)
        assert interval is not None
        assert interval.low == 0.0
        assert interval.high == pytest.approx(3 / n, rel=0.06)
    assert statistics.rate_interval(0, 0) is None
