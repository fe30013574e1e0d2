"""One server under control for all tests here, and simulations on it."""

from collections.abc import Iterator
from typing import Any

import pytest
from sim_programs import ACCOUNTS, TWO_ACCOUNTS, Simulate

from duress.simulator import Cell, Simulation


@pytest.fixture(scope="session")
def cell() -> Iterator[Cell]:
    with Cell.start() as cell:
        yield cell


@pytest.fixture
def simulate(cell: Cell) -> Iterator[Simulate]:
    """Make a simulation on the shared server; it ends with the test."""
    made: list[Simulation] = []

    def make(setup: Any = ACCOUNTS, data: Any = TWO_ACCOUNTS, **options: Any) -> Simulation:
        made.append(Simulation(setup, data=data, cell=cell, **options))
        return made[-1]

    yield make
    for simulation in made:
        simulation.close()
