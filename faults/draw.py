"""Decisions that a plan is drawn by: the same from one release of Python to the next."""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Decisions from a source of randomness, by its `random()` only: Python keeps the sequence of no other method."""

    def __init__(self, source: Random) -> None:
        self._random: Callable[[], float] = source.random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def below(self, limit: int) -> int:
        """0 to limit - 1."""
        return int(self._random() * limit)

    def seconds(self, low: float, high: float) -> float:
        """Whole milliseconds, so that a plan is easy to read."""
        return round(low + self._random() * (high - low), 3)

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def weighted(self, weights: Sequence[tuple[T, float]]) -> T:
        left = self._random() * sum(weight for _, weight in weights)
        for choice, weight in weights:
            left -= weight
            if left < 0:
                return choice
        return weights[-1][0]
