"""`@duress.test`: makes a test of a scenario or of a program. Imports nothing heavy: every test module has it."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pytest

    from duress.faults.plan import Plan
    from duress.scenarios import Scenario
    from duress.simulator import NetworkSettings
    from duress.simulator.control import Setup

Function = Callable[..., Any]
SUBJECT: Final = "__duress__"
RUN: Final = "run"  # what a program calls the argument that is the Run; its others are fixtures
RUNS: Final = "runs"  # and a scenario's test the one that is what was found


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTest:
    """A program, and how it is simulated; see duress.simulator.Simulation."""

    seeds: range
    setup: "Setup" = ""
    data: "Setup | None" = None
    simulated: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioTest:
    """A scenario, and how it is run; as `duress run` has it."""

    scenario: "Scenario | str"
    seeds: range
    faults: Iterable[str] | Mapping[str, float] | None = None  # None: all that the scenario allows
    plan: "Plan | None" = None  # None: drawn from each seed
    workers: int | None = None
    options: Mapping[str, int] = field(default_factory=dict)
    canary: str | None = None


def test(
    subject: "Scenario | str | Function | None" = None,
    *,
    seeds: "int | range" = 20,
    setup: "Setup" = "",
    data: "Setup | None" = None,
    network: "NetworkSettings | None" = None,
    holds: int = 8,
    scheduler: str = "random",
    faults: Iterable[str] | Mapping[str, float] | None = None,
    plan: "Plan | None" = None,
    workers: int | None = None,
    options: Mapping[str, int] | None = None,
    canary: str | None = None,
) -> Any:
    """Make a pytest test of a scenario or of an asyncio program, which is run once for each seed.

        @duress.test(orders, seeds=20, faults=["kill-worker"])      # a Scenario, or its name as `duress run` takes it
        def test_orders(runs): ...                                  # called when all have passed, with what was found

        @duress.test(seeds=200, setup="create table counter (n int)", data="insert into counter values (0)")
        async def test_counter(run): ...                            # the program itself; `run` is duress.simulator.Run

    Other arguments are fixtures. `seeds` is a number (seeds 1 to N) or a range. For a program `setup`, `data`, `network`,
    `holds` and `scheduler` are duress.simulator.Simulation's; for a scenario the others are those of `duress run`.
    """
    chosen = range(1, seeds + 1) if isinstance(seeds, int) else seeds
    simulated = {"network": network, "holds": holds, "scheduler": scheduler}
    program = ProgramTest(seeds=chosen, setup=setup, data=data, simulated=simulated)
    if subject is None:
        return functools.partial(_program_test, about=program)
    if callable(subject):
        return _program_test(subject, about=program)
    about = ScenarioTest(
        scenario=subject,
        seeds=chosen,
        faults=faults,
        plan=plan,
        workers=workers,
        options=options or {},
        canary=canary,
    )
    return functools.partial(_scenario_test, about=about)


test.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it from modules that import it by name


def _program_test(function: Function, about: ProgramTest) -> Function:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(
            f"@duress.test on {_name(function)}: a program is an async function; to test a scenario name it first, like"
            ' @duress.test("orders:orders")'
        )

    def play(request: "pytest.FixtureRequest", arguments: Mapping[str, Any], own: tuple[Any, ...]) -> None:
        from duress.pytest_plugin import programs

        takes_run = RUN in inspect.signature(function).parameters

        def program(run: Any) -> Any:
            return function(*own, **{**arguments, **({RUN: run} if takes_run else {})})

        programs.check(request, about, program)

    return _wrapped(function, about, RUN, play)


def _scenario_test(function: Function, about: ScenarioTest) -> Function:
    if inspect.iscoroutinefunction(function):
        raise TypeError(
            f"@duress.test(scenario) on {_name(function)}: this function is called when all runs have passed, and is not async"
        )

    def play(request: "pytest.FixtureRequest", arguments: Mapping[str, Any], own: tuple[Any, ...]) -> None:
        from duress.pytest_plugin import scenarios

        runs = scenarios.check(request, about)
        takes_runs = RUNS in inspect.signature(function).parameters
        function(*own, **{**arguments, **({RUNS: runs} if takes_runs else {})})

    return _wrapped(function, about, RUNS, play)


def _wrapped(function: Function, about: object, provided: str, play: Callable[..., None]) -> Function:
    """A plain function in its place, whose arguments are fixtures: pytest knows nothing of `provided`."""
    signature = inspect.signature(function)
    parameters = [one for name, one in signature.parameters.items() if name != provided]
    asks = "request" in signature.parameters
    if not asks:
        parameters.append(inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def item(*own: Any, request: "pytest.FixtureRequest", **fixtures: Any) -> None:
        __tracebackhide__ = True
        if not hasattr(request.config.option, "duress_seeds"):
            import pytest

            pytest.skip("a test of @duress.test, and the plugin is switched off (-p no:duress)")
        play(request, {**fixtures, **({"request": request} if asks else {})}, own)

    item.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    setattr(item, SUBJECT, about)
    return item


def _name(function: Function) -> str:
    return getattr(function, "__qualname__", repr(function))
