"""When a failing body is tried again, and how the engine backs off from a database that is away."""

import random

import pytest

from duress.engine import Retry
from duress.engine.errors import ConfigurationError
from duress.engine.link import backoff


class Fixed(random.Random):
    """Draws what it is told."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


def test_delays_double_up_to_the_maximum() -> None:
    retry = Retry(attempts=9, initial=0.5, backoff=2, maximum=3, jitter=0)
    assert [retry.delay(attempt, random.Random()) for attempt in range(1, 6)] == [0.5, 1, 2, 3, 3]


def test_jitter_stays_within_its_bounds() -> None:
    retry = Retry(initial=1, backoff=1, jitter=0.25)
    assert retry.delay(1, Fixed(0.0)) == 0.75
    assert retry.delay(1, Fixed(0.5)) == 1
    assert retry.delay(1, Fixed(1.0)) == 1.25


def test_the_thousandth_attempt_still_has_a_delay() -> None:
    assert Retry(attempts=10_000, jitter=0).delay(9_999, random.Random()) == 30


def test_the_delay_comes_from_the_given_source_only() -> None:
    retry = Retry()
    assert [retry.delay(3, random.Random(7)) for _ in range(3)] == [retry.delay(3, random.Random(7))] * 3


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"initial": -1},
        {"backoff": 0.5},
        {"maximum": -1},
        {"jitter": 1.5},
        {"jitter": -0.1},
        {"initial": float("nan")},
        {"maximum": float("nan")},
        {"backoff": float("nan")},
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="will not do"):
        Retry(**options)  # type: ignore[arg-type]


def test_the_database_is_tried_again_within_a_second() -> None:
    assert max(backoff(attempt, Fixed(1.0)) for attempt in range(1, 100)) <= 0.75
    assert backoff(1, Fixed(0.0)) == 0.0025
