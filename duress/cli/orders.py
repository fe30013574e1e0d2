"""From a reproduction to what is to be run."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec

from duress.cli.choices import chosen_canary, chosen_kinds, chosen_places
from duress.faults.plan import Plan
from duress.scenarios import registry
from duress.scenarios.campaign import Order, draw
from duress.scenarios.observed import Happening
from duress.scenarios.settings import USUAL, Settings, Simulating
from duress.scenarios.sim.token import Reproduction
from duress.scenarios.spec import Scenario
from duress.scenarios.work import Work
from duress.simulator import tokens

Traced = Callable[[int, Sequence[Happening]], None]


def order_of(run: Reproduction, out: Path, traced: Traced | None = None) -> Order:
    """The run as a campaign of one seed; `traced` gets its entries. It is run twice where its token cannot tell whether it
    is the same. Raises UsageError.
    """
    unusual = run.unusual
    try:
        scenario = registry.find(run.reference)
    except registry.UnknownScenario as error:
        raise click.UsageError(str(error)) from error
    canary = chosen_canary(run.reference, unusual.canary)
    kinds = None if unusual.kinds is None else ",".join(unusual.kinds) or "none"
    recorded = None if unusual.choices is None else tokens.unpack(unusual.choices)[1]
    work = Work(
        scenario=scenario,
        reference=run.reference,
        world="sim",
        options=_options(run, scenario),
        settings=_settings(run),
        canary=unusual.canary,
        dsn=None,
        logs=out / "logs",
        simulating=Simulating(
            scheduler=unusual.scheduler, choices=recorded, twice_every=int(run.hash is None), trace=traced is not None
        ),
    )
    return Order(
        work=work,
        seeds=[run.seed],
        plan=unusual.plan,
        kinds=chosen_kinds(scenario, canary, kinds, "sim", own_server=True),
        places=chosen_places(scenario, canary),
        out=out,
        asked=unusual.kinds,
        traced=traced,
    )


def with_plan(run: Reproduction, plan: Plan | None) -> Reproduction:
    """The run under another plan, which nobody has seen yet; the run itself if it is the one that it has."""
    order = order_of(run, Path())
    if plan is None or plan == (order.plan or draw(order, run.seed)):
        return run
    changed = msgspec.structs.replace(run.unusual, plan=plan, kinds=None)
    return msgspec.structs.replace(run, unusual=changed, hash=None, code=None)


def _options(run: Reproduction, scenario: Scenario) -> dict[str, int]:
    sizes = {**scenario.options, **scenario.simulated}
    if unknown := sorted(run.unusual.options.keys() - sizes.keys()):
        raise click.UsageError(f"this token sets {', '.join(unknown)}, and scenario {run.reference} has no such size")
    return {**sizes, **run.unusual.options}


def _settings(run: Reproduction) -> Settings:
    usual = dataclasses.asdict(USUAL["sim"])
    if unknown := sorted(run.unusual.settings.keys() - usual.keys()):
        raise click.UsageError(f"this token sets {', '.join(unknown)}, which this duress does not know")
    return msgspec.convert({**usual, **run.unusual.settings}, Settings)
