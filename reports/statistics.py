"""What a sample can say, and no more.

Recovery times are neither normal nor many, so every interval here is distribution-free: it assumes independent
observations of one continuous distribution and nothing about its shape. `math.inf` is a legal observation: "longer
than we looked". When a sample is too small for a statement, the answer is None.

Sources: W. J. Conover, Practical Nonparametric Statistics, 3rd ed. 1999, section 3.2 (quantile intervals from order
statistics; also the source of `scipy.stats.quantile_test`, which the tests compare with); P. Massart, The tight
constant in the Dvoretzky-Kiefer-Wolfowitz inequality, Annals of Probability 18(3), 1990; C. J. Clopper and E. S.
Pearson, Biometrika 26, 1934; J. A. Hanley and A. Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA
249, 1983 (the rule of three).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Both ends belong to it; `high` may be infinite."""

    low: float
    high: float


def median(sample: Sequence[float]) -> float:
    """The middle of `sample`, or the mean of the two middle values; infinite if a middle value is. Raises ValueError if
    `sample` is empty."""
    if not sample:
        raise ValueError("the median of no values does not exist")
    ordered = sorted(sample)
    lower, upper = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return upper if lower == upper else lower + (upper - lower) / 2


def median_interval(sample: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The narrowest symmetric pair of order statistics that holds the median with at least `confidence`; None below n
    = 6 (at 95 %). The truth lies outside on either side with a probability of at most (1 - confidence) / 2."""
    cut = _rank(len(sample), 0.5, (1 - confidence) / 2)
    if cut < 1:
        return None
    ordered = sorted(sample)
    return Interval(ordered[cut - 1], ordered[len(ordered) - cut])


def upper_bound(sample: Sequence[float], quantile: float, confidence: float = CONFIDENCE) -> float | None:
    """The smallest order statistic that is at or above the `quantile` with at least `confidence`; None if even the
    greatest is not (n < 59 for p95, n < 299 for p99, at 95 %)."""
    # By symmetry: at most k - 1 of n above the quantile has the probability that a lower rank has for 1 - quantile.
    cut = _rank(len(sample), 1 - quantile, 1 - confidence)
    if cut < 1:
        return None
    return sorted(sample)[len(sample) - cut]


def lower_bound(sample: Sequence[float], quantile: float, confidence: float = CONFIDENCE) -> float | None:
    """The greatest order statistic that is at or below the `quantile` with at least `confidence`; None if even the
    smallest is not."""
    cut = _rank(len(sample), quantile, 1 - confidence)
    if cut < 1:
        return None
    return sorted(sample)[cut - 1]


def smallest_n(quantile: float, confidence: float = CONFIDENCE) -> int:
    """How many observations `upper_bound` needs to say anything about `quantile`."""
    return math.ceil(math.log(1 - confidence) / math.log(quantile))


def smallest_n_median(confidence: float = CONFIDENCE) -> int:
    """How many observations `median_interval` needs."""
    return math.ceil(1 - math.log2(1 - confidence))


def dkw_half_width(n: int, confidence: float = CONFIDENCE) -> float:
    """Half the height of the band that holds the whole true distribution function with at least `confidence`
    (Dvoretzky-Kiefer-Wolfowitz with Massart's constant). Raises ValueError for n < 1."""
    if n < 1:
        raise ValueError("a band around no observations does not exist")
    return math.sqrt(math.log(2 / (1 - confidence)) / (2 * n))


def rate_interval(events: int, n: int, confidence: float = CONFIDENCE) -> Interval | None:
    """Clopper-Pearson interval of the rate of which `events` in `n` independent runs is a sample; None for n = 0.

    With no event it is one-sided, [0, 1 - (1 - confidence)^(1/n)], which is about 3/n at 95 % (the rule of three).
    """
    if n == 0:
        return None
    if events == 0:
        return Interval(0.0, -math.expm1(math.log(1 - confidence) / n))
    from scipy.special import betaincinv  # half a second, so only when needed

    tail = (1 - confidence) / 2
    low = float(betaincinv(events, n - events + 1, tail))
    high = 1.0 if events == n else float(betaincinv(events + 1, n - events, 1 - tail))
    return Interval(low, high)


@cache
def _rank(n: int, chance: float, tail: float) -> int:
    """The greatest k for which P(X <= k - 1) <= tail, X ~ Binomial(n, chance); 0 if there is none."""
    if n == 0:
        return 0
    from scipy.special import bdtr

    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if float(bdtr(middle - 1, n, chance)) <= tail:
            low = middle
        else:
            high = middle - 1
    return low
