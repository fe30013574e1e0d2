"""Which seeds a test runs, and the line that runs one of them again."""

import os
import shlex
import time
from collections.abc import Iterator
from itertools import count

import pytest


def chosen(config: pytest.Config, own: range) -> Iterator[int]:
    """The seeds of a test whose own are `own`."""
    option = config.getoption
    if option("duress_seed") is not None:
        yield option("duress_seed")
    elif option("duress_seeds") is not None:
        yield from range(1, option("duress_seeds") + 1)
    elif option("duress_time") is not None:
        until = time.monotonic() + option("duress_time")
        for seed in count(1):
            yield seed  # the first in any case
            if time.monotonic() >= until:
                return
    else:
        yield from own


def line(item: pytest.Item, *words: str) -> str:
    """The command that runs this test with these options, to be pasted where pytest was started."""
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    _, separator, name = item.nodeid.partition("::")
    return shlex.join(["pytest", f"{path}{separator}{name}", *words])
