"""A simulated ground for the tests that only run plans on it."""

from collections.abc import Iterator

import pytest
from grounds import Proving, proving


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proving]:
    with proving(tmp_path_factory.mktemp("ground")) as ground:
        yield ground
