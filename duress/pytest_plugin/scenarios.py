"""Tests of scenarios: run under seed after seed, judged; the first run that violates an invariant fails the test."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from duress import pytest_plugin
from duress.cli import choices
from duress.cli.orders import order_of
from duress.faults.plan import Plan, describe
from duress.faults.planfile import load
from duress.faults.worlds import World
from duress.pytest_plugin import seeds
from duress.pytest_plugin.stage import Stage
from duress.pytest_plugin.subject import ScenarioTest
from duress.reports.shrunk import sizes, told
from duress.scenarios import registry, verdict
from duress.scenarios.campaign import Order, draw, one_run
from duress.scenarios.observed import RunFailed
from duress.scenarios.result import Run, Shrunk
from duress.scenarios.shrinking.shrink import Budget, NothingToShrink, shrink
from duress.scenarios.sim import token
from duress.scenarios.sim.ground import SimGround
from duress.scenarios.spec import Scenario
from duress.scenarios.work import Work
from duress.simulator import TokenError

MAX_TIME = 20.0  # seconds of one run's own clock, as for `duress run`


class Violated(AssertionError):
    """A run violated an invariant. `run` is what was found."""

    def __init__(self, run: Run, message: str) -> None:
        super().__init__(message)
        self.run = run


def check(request: pytest.FixtureRequest, about: ScenarioTest) -> tuple[Run, ...]:
    """What was found under each seed; fails the test at the first violation, or if the runs prove too little."""
    item, config = request.node, request.config
    folder = request.getfixturevalue("tmp_path_factory").mktemp("duress")
    order, chosen = _chosen(config, about, folder)
    stage = pytest_plugin.stage_of(config)
    ground = stage.ground(order.work)
    runs: list[Run] = []
    for seed in chosen:
        run = stage.wait(one_run(_of_seed(order, about, seed), ground, seed, with_spans=False))
        runs.append(run)
        if run.verdict == "fail":
            small = _smaller(stage, order, about, run, config.getoption("duress_shrink"))
            item.stash[pytest_plugin.STORY] = _story(item, order, runs, small)
            pytest.fail(_violations(run), pytrace=False)
    decided, reasons = verdict.of_campaign(runs)
    if decided != "pass":
        pytest.fail(f"{decided}: {'; '.join(reasons)}", pytrace=False)
    return tuple(runs)


def _smaller(stage: Stage, order: Order, about: ScenarioTest, run: Run, seconds: float) -> Shrunk | None:
    """The run made smaller; None where that is not wanted, or cannot be."""
    ground = stage.ground(order.work)
    if seconds <= 0 or not isinstance(ground, SimGround):
        return None
    wanted = run.violations[0].invariant
    try:
        return stage.wait(shrink(_of_seed(order, about, run.seed), ground, run.seed, wanted, Budget(seconds=seconds)))
    except (NothingToShrink, RunFailed):  # the violation is told as it was found
        return None


def _chosen(config: pytest.Config, about: ScenarioTest, folder: Path) -> tuple[Order, Iterable[int]]:
    """What is to be run, and under which seeds: the test's, or the run that a token names."""
    word = config.getoption("duress_replay")
    if word is None:
        return _order(about, config.getoption("duress_world"), folder), seeds.chosen(config, about.seeds)
    try:
        named = token.decode(word)
        if named.reference != registry.reference_of(about.scenario):
            pytest.skip(f"--duress-replay names a run of {named.reference}")
        return order_of(named, folder), [named.seed]
    except (TokenError, registry.UnknownScenario, click.UsageError) as error:
        pytest.fail(f"--duress-replay: {error}", pytrace=False)


def _of_seed(order: Order, about: ScenarioTest, seed: int) -> Order:
    """A token holds kinds of faults, but no weights of a test's own: then it has to hold the plan."""
    weighed = isinstance(about.faults, Mapping) and order.plan is None
    return dataclasses.replace(order, plan=draw(order, seed)) if weighed else order


class RunScenario:
    """Runs scenarios for tests that bring plans and seeds of their own: `duress_run(orders, plan=plan)`.

    What a run needs is started when first asked for and serves all runs of this process.
    """

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage = stage
        self._folder = folder

    def __call__(
        self,
        scenario: Scenario | str,
        *,
        plan: Plan | None = None,
        seed: int = 1,
        world: World = "sim",
        canary: str | None = None,
        **about: Any,
    ) -> Run:
        """One run. Without `plan` it is drawn from the seed. Raises Violated; what proves little is verdict "inconclusive"."""
        test = ScenarioTest(scenario=scenario, seeds=range(seed, seed + 1), plan=plan, canary=canary, **about)
        order = _order(test, world, self._folder)
        order = _of_seed(order, test, seed)
        run = self._stage.wait(one_run(order, self._stage.ground(order.work), seed, with_spans=False))
        if run.verdict == "fail":
            raise Violated(run, _violations(run))
        return run


def _order(about: ScenarioTest, world: World, folder: Path) -> Order:
    """What `duress run` would be told. What is wrong with it fails the test in words."""
    try:
        reference = registry.reference_of(about.scenario)
        scenario = registry.find(reference)
        canary = choices.chosen_canary(reference, about.canary)
        settings = choices.chosen_settings(world, about.workers, MAX_TIME)
        sizes = [f"{name}={value}" for name, value in about.options.items()]
        options = choices.chosen_options(scenario, sizes, world)
        wanted = None if about.faults is None else ",".join(about.faults) or "none"
        kinds = choices.chosen_kinds(scenario, canary, wanted, world, own_server=True)
    except (registry.UnknownScenario, click.UsageError) as error:
        pytest.fail(f"@duress.test: {error}", pytrace=False)
    if isinstance(about.faults, Mapping):
        kinds = dict(about.faults)
    work = Work(
        scenario=scenario,
        reference=reference,
        world=world,
        options=options,
        settings=settings,
        canary=about.canary,
        dsn=None,
        logs=folder / "logs",
    )
    return Order(
        work=work,
        seeds=about.seeds,
        plan=about.plan,
        kinds=kinds,
        places=choices.chosen_places(scenario, canary),
        out=folder,
        asked=None if about.faults is None else tuple(kinds),
    )


def _violations(run: Run) -> str:
    return "\n".join(f"{one.invariant} {one.title}: {one.message}" for one in run.violations)


def _story(item: pytest.Item, order: Order, runs: Sequence[Run], small: Shrunk | None) -> str:
    """What was run, what was done to it, what broke, and the line that shows it again."""
    run, world = runs[-1], order.work.world
    passed = f"; the {len(runs) - 1} before it passed" if len(runs) > 1 else ""
    assert run.plan is not None
    events = load(order.out / run.plan).events
    lines = [f"{order.work.reference} in {world}, seed {run.seed} violates {_broken(run.violations)}{passed}", ""]
    lines += ["What was done to it:", *(f"  {describe(event)}" for event in events)] if events else ["No faults."]
    lines += ["", "What broke:", *(f"  {line}" for line in _violations(run).splitlines())]
    if small is not None:
        again = seeds.line(item, f"--duress-replay={small.token}")
        lines += ["", f"Made smaller: {sizes(small)}.", *small.faults, "", *told(small)]
        lines += ["", "The small run again:", again]
    lines += ["", f"History and logs: {order.out}", ""]
    words = [f"--duress-replay={run.token}"]
    if run.token is None:
        words = [f"--duress-seed={run.seed}", f"--duress-world={world}"]
        lines += ["With real processes a seed repeats the plan and the workload, not who comes first.", ""]
    return "\n".join([*lines, "To run it again:", seeds.line(item, *words)])


def _broken(violations: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(one.invariant for one in violations))
