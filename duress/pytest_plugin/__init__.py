"""The pytest plugin: `@duress.test`, fixtures and options. pytest loads it in every project where duress is installed.

So this module imports nothing but pytest: the simulator, psycopg and the like come when a test first needs them. Without
it (`-p no:duress`) tests of `@duress.test` are skipped by name.
"""

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from duress.pytest_plugin.subject import SUBJECT

if TYPE_CHECKING:
    from duress.pytest_plugin.scenarios import RunScenario
    from duress.pytest_plugin.stage import Stage
    from duress.simulator import Cell, Simulation

STAGE = pytest.StashKey["Stage"]()
STORY = pytest.StashKey[str]()
MARKER = "duress: runs under duress, with as many seeds as it or --duress-seeds says"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("duress", "tests of @duress.test")
    group.addoption("--duress-seeds", type=_from_one, metavar="N", help="Run seeds 1 to N instead of each test's own.")
    group.addoption("--duress-seed", type=int, metavar="S", help="Run this one seed.")
    group.addoption("--duress-replay", metavar="TOKEN", help="Run once more what a failed test's token names.")
    group.addoption(
        "--duress-time",
        type=float,
        metavar="SECONDS",
        help="Run seeds from 1 on for so long, for each test, instead of a number of them.",
    )
    group.addoption(
        "--duress-shrink",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="Make a failing run smaller for so long, and tell that (10; 0: do not).",
    )
    group.addoption(
        "--duress-world",
        choices=["sim", "procs"],
        default="sim",
        help="Run scenarios simulated (the default) or with real processes.",
    )


def _from_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("must be 1 or more")
    return number


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    given = [name for name in ("seeds", "seed", "replay", "time") if config.getoption(f"duress_{name}") is not None]
    if len(given) > 1:
        options = " and ".join(f"--duress-{name}" for name in given)
        raise pytest.UsageError(f"{options} exclude each other: give one of them")


def pytest_itemcollected(item: pytest.Item) -> None:
    """`-m duress` selects the tests of `@duress.test`. By the plugin, so that without it no mark is unknown."""
    if hasattr(getattr(item, "function", None), SUBJECT):
        item.add_marker("duress")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    story = item.stash.get(STORY, None)
    if report.when == "call" and report.failed and story is not None:
        report.sections.append(("duress", story))
    return report


def stage_of(config: pytest.Config) -> "Stage":
    """What the tests of this process share, made by the first that asks."""
    from duress.pytest_plugin.stage import Stage

    if STAGE not in config.stash:
        config.stash[STAGE] = stage = Stage()
        config.add_cleanup(stage.close)
    return config.stash[STAGE]


# Fixtures


@pytest.fixture(scope="session")
def duress_cell(pytestconfig: pytest.Config) -> "Cell":
    """A PostgreSQL under the simulator's control: one for this process, so one per worker of pytest-xdist."""
    return stage_of(pytestconfig).cell


@pytest.fixture
def duress_simulation(pytestconfig: pytest.Config) -> "Iterator[Callable[..., Simulation]]":
    """`duress_simulation(setup, data=…)`: a duress.simulator.Simulation on this process's cell, closed after the test."""
    import contextlib

    from duress.simulator import Simulation

    with stage_of(pytestconfig).on_core() as cell, contextlib.ExitStack() as stack:

        def simulation(setup: Any = "", **options: Any) -> Simulation:
            return stack.enter_context(Simulation(setup, cell=cell, **options))

        yield simulation


@pytest.fixture(scope="session")
def duress_run(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> "RunScenario":
    """`duress_run(scenario, plan=…, seed=1)`: one simulated run of a scenario; raises Violated if an invariant is broken."""
    from duress.pytest_plugin.scenarios import RunScenario

    return RunScenario(stage_of(pytestconfig), tmp_path_factory.mktemp("duress"))
