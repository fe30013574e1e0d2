"""What code says of itself: what must always hold, what must happen at some time, what must be reached.

A test that passes though a rare branch was never taken has shown less than it seems to. So such branches say that they
are rare, and a campaign in which one never came names it. In production nobody listens, and each call costs one comparison.
The texts are constants, the same in every run, and never hold a user's value.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Kind = Literal["always", "sometimes"]
Listener = Callable[[Kind, str, bool], None]
"""Told of the kind, the text, and whether it held. Of `sometimes` it hears only when it did."""

_listener: Listener | None = None


def always(condition: object, what: str) -> None:
    """`condition` is true each time this is reached; under test, a run in which it is not has failed."""
    if _listener is not None:
        _listener("always", what, bool(condition))


def sometimes(condition: object, what: str) -> None:
    """`condition` is true in some run; under test, a campaign long enough in which it never was is inconclusive."""
    if _listener is not None and condition:
        _listener("sometimes", what, True)


def reachable(what: str) -> None:
    """Some run comes here: `sometimes(True, what)`."""
    if _listener is not None:
        _listener("sometimes", what, True)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` what code of this process says of itself. It is called in whichever thread the code runs."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
