"""A controlled PostgreSQL of each version that is installed, for the whole session, and a database of its own per test."""

from collections.abc import Iterator

import pytest
from room import Room

from duress.faults.postgres import BinariesNotFound, find_binaries
from duress.simulator.server import Cell, SimUnavailable


@pytest.fixture(scope="session", params=["embedded", "system"])
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    """A cell. Skipped, with the reason, where there is no compiler, no Linux, or no second PostgreSQL."""
    try:
        binaries = find_binaries(request.param)
        if request.param == "system" and binaries.major == find_binaries("embedded").major:
            pytest.skip(f"the system's PostgreSQL is {binaries.version}, the embedded one's version")
        cell = Cell.start(binaries=binaries)
    except (BinariesNotFound, SimUnavailable) as error:
        pytest.skip(f"{type(error).__name__}: {error}")
    with cell:
        yield cell


@pytest.fixture
def room(cell: Cell) -> Iterator[Room]:
    """A fresh database and a new run: the clock at its beginning, backends numbered from 1."""
    cell.begin()
    room = Room(cell, cell.fresh_database("template1"))
    yield room
    room.leave()


@pytest.fixture
def own(cell: Cell) -> Iterator[Cell]:
    """A cell of one test's own, which it may stop."""
    with Cell.start(binaries=cell.server.binaries) as own:
        yield own
