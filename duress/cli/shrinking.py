"""`duress shrink`: a failing simulated run made smaller, and told."""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from duress.cli import codes
from duress.cli.orders import order_of, with_plan
from duress.cli.reproductions import planned
from duress.faults.postgres import ServerError
from duress.reports.shrunk import lines
from duress.scenarios.campaign import Order
from duress.scenarios.observed import RunFailed
from duress.scenarios.result import Shrunk
from duress.scenarios.shrinking.shrink import SECONDS, Budget, NothingToShrink, shrink
from duress.scenarios.sim.ground import open_sim_ground


@click.command("shrink")
@click.argument("target", metavar="TOKEN|FILE|FOLDER")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=SECONDS,
    show_default=True,
    help="Show the smallest run that was found by then, of each that is shrunk.",
)
@click.option("--runs", type=click.IntRange(min=1), help="Try so many runs at most.")
@click.option("--invariant", metavar="ID", help="Keep this one broken.  [default: the first that the run breaks]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(target: str, seconds: float, runs: int | None, invariant: str | None, as_json: bool) -> int:
    """Make a failing run smaller for as long as it breaks the same invariant: fewer faults, workflows and workers, asyncio's
    order and the least latency wherever they do. Then tell what happens in it, event by event.

    What names the run is given as to duress replay. Of a folder's runs each is shrunk that is the first to break something.

    Exit code: 1 when a run was shrunk (it breaks an invariant), 0 when none breaks any, 2 usage, 3 the harness failed,
    130 interrupted.
    """
    budget = Budget(seconds=seconds, runs=runs)
    chosen = [with_plan(one.run, one.plan) for one in planned(target)]
    with tempfile.TemporaryDirectory(prefix="duress-shrink-") as folder:
        orders = [order_of(run, Path(folder) / str(number)) for number, run in enumerate(chosen)]
        try:
            found, failed = asyncio.run(_shrink_all(orders, invariant, budget, as_json=as_json))
        except ServerError as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        document = {"shrunk": found, "failed": failed}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    return codes.HARNESS_FAILED if failed else codes.VIOLATED if found else codes.PASS


async def _shrink_all(
    orders: Sequence[Order], invariant: str | None, budget: Budget, *, as_json: bool
) -> tuple[list[Shrunk], list[str]]:
    """What was shrunk, and what failed in the harness."""
    found: list[Shrunk] = []
    failed: list[str] = []
    for order in orders:
        try:
            async with open_sim_ground(order.work, 0) as ground:
                known = {one.invariant for one in found}
                one = await shrink(order, ground, order.seeds[0], invariant, budget, known)
        except NothingToShrink as error:
            click.echo(f"nothing to shrink: {error}", err=True)
            continue
        except RunFailed as error:
            failed.append(str(error).strip().splitlines()[-1])
            click.echo(f"the harness failed: {error}", err=True)
            continue
        found.append(one)
        if not as_json:
            click.echo("\n".join(lines(one)) + "\n")
    return found, failed
