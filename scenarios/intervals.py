"""Sets of moments, as sorted lists of disjoint half-open intervals."""

from collections.abc import Iterable, Sequence

Interval = tuple[float, float]


def covered(spans: Iterable[Interval]) -> list[Interval]:
    """The union of any intervals; empty ones count for nothing."""
    union: list[Interval] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if union and start <= union[-1][1]:
            union[-1] = union[-1][0], max(union[-1][1], end)
        else:
            union.append((start, end))
    return union


def intersect(ones: Sequence[Interval], others: Sequence[Interval]) -> list[Interval]:
    """The moments that are in both."""
    both = ((max(one[0], other[0]), min(one[1], other[1])) for one in ones for other in others)
    return covered(both)


def subtract(ones: Sequence[Interval], others: Sequence[Interval]) -> list[Interval]:
    """The moments of `ones` that are not in `others`."""
    left = list(ones)
    for start, end in others:
        left = [
            piece
            for one in left
            for piece in ((one[0], min(one[1], start)), (max(one[0], end), one[1]))
            if piece[0] < piece[1]
        ]
    return left
