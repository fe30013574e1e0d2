"""`duress run`: scenarios under faults, judged and reported."""

import asyncio
import contextlib
import shlex
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from duress import reports
from duress.cli import codes, terminal
from duress.cli.choices import (
    chosen_canary,
    chosen_kinds,
    chosen_options,
    chosen_places,
    chosen_plan,
    chosen_seeds,
    chosen_settings,
    chosen_world,
    parse_faults,
    parse_shard,
)
from duress.cli.document import document
from duress.cli.folders import OUT, as_name, new_folder
from duress.cli.interruption import Interruption
from duress.cli.live import Progress, writing
from duress.cli.remembering import remembered, replayed
from duress.faults.network import NetworkUnavailable
from duress.faults.postgres import ServerError
from duress.faults.worlds import NetworkName, World
from duress.reports.terminal import show
from duress.scenarios import registry
from duress.scenarios.campaign import Order, Outcome, run_campaign
from duress.scenarios.procs.database import DatabaseUnusable, without_password
from duress.scenarios.settings import SCHEDULER, Simulating
from duress.scenarios.shards import Shard
from duress.scenarios.sim.cluster import ClusterUnusable, open_cluster
from duress.scenarios.stream import STREAM_FILE
from duress.scenarios.work import Work

SHRINK_FOR: Final = 20.0  # seconds
CORPUS: Final = OUT / "corpus"
_SHOWN: Final = 3  # divergences; the report has them all
Conducted = tuple[Order, Outcome]


@dataclass(frozen=True, slots=True)
class Flags:
    """The options of one call."""

    world: World
    seeds: int
    seed: int | None
    plan: Path | None
    faults: str | None
    workers: int | None
    jobs: int
    max_time: float
    canary: str | None
    dsn: str | None
    out: Path | None
    sizes: tuple[str, ...]
    seeds_from: str | None
    shard: Shard | None
    scheduler: str | None
    cluster: str | None
    network: NetworkName | None
    shrink: float
    corpus: Path
    no_corpus: bool


@click.command("run")
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option(
    "--world",
    type=click.Choice(["procs", "sim", "docker"]),
    envvar="DURESS_WORLD",
    help="Where to run: simulated, in real processes, in containers.  [default: sim, where it can be; procs with --dsn]",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=0),
    default=10,
    envvar="DURESS_SEEDS",
    show_default=True,
    help="Run seeds 1 to N.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Run this one seed.")
@click.option("--seeds-from", metavar="TEXT", help="Run N fresh seeds drawn from TEXT, such as a commit's hash.")
@click.option(
    "--shard", type=parse_shard, metavar="I/N", help="Run every N-th seed, from the I-th on; merge by report."
)
@click.option("--plan", type=click.Path(path_type=Path), help="Take the faults from this file instead of drawing them.")
@click.option(
    "--faults",
    type=parse_faults,
    envvar="DURESS_FAULTS",
    help="Draw only these kinds, like kill-worker,pause-worker; all (that the world can do), or none.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    envvar="DURESS_WORKERS",
    help="Worker processes.  [default: 4; 3 in sim]",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=1,
    envvar="DURESS_JOBS",
    show_default=True,
    help="Runs at a time; each has a server of its own.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    envvar="DURESS_MAX_TIME",
    show_default=True,
    help="Seconds for the workload and the faults of one run.",
)
@click.option(
    "--canary", help="Break the engine or the workload on purpose; see duress list --canaries SCENARIO, or --mutants."
)
@click.option("--dsn", envvar="DURESS_DSN", help="Use this PostgreSQL server instead of one that duress starts.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DURESS_OUT",
    help="Folder for results.  [default: .duress/TIME-SCENARIO]",
)
@click.option("--set", "sizes", multiple=True, metavar="NAME=N", help="Set a size of the scenario, like transfers=200.")
@click.option(
    "--network",
    type=click.Choice(["proxy", "toxiproxy", "none"]),
    envvar="DURESS_NETWORK",
    help="Between worker processes and PostgreSQL: duress's own proxy, a Toxiproxy server, nothing.  [default: proxy]",
)
@click.option(
    "--scheduler",
    type=click.Choice(["fifo", "random", "pct", "pos"]),
    help=f"In sim: who goes next among those that can.  [default: {SCHEDULER}]",
)
@click.option(
    "--shrink",
    type=click.FloatRange(min=0),
    default=SHRINK_FOR,
    envvar="DURESS_SHRINK",
    show_default=True,
    metavar="SECONDS",
    help="In sim: then make the first failing run of each invariant smaller, and tell it; 0: do not.",
)
@click.option(
    "--corpus",
    type=click.Path(path_type=Path, file_okay=False),
    default=CORPUS,
    envvar="DURESS_CORPUS",
    show_default=True,
    help="In sim: keep failing runs in this folder, and replay those of the scenario first.",
)
@click.option("--no-corpus", is_flag=True, help="Neither replay failing runs first nor keep new ones.")
@click.option("--cluster", metavar="ADDRESS", help="In sim: let the workers of this Dask scheduler run the seeds.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing while it runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(scenarios: tuple[str, ...], quiet: bool, as_json: bool, world: World | None, **flags: object) -> int:
    """Run each SCENARIO (a name from `duress list`, or your own as package.module:name) once per seed.

    Exit code: 0 pass, 1 an invariant was violated, 2 usage, 3 the harness failed, 4 inconclusive, 5 nothing selected,
    130 interrupted.
    """
    chosen = Flags(world=chosen_world(world, flags["dsn"]), **flags)  # type: ignore[arg-type]
    if chosen.world != "procs" and chosen.dsn is not None:
        raise click.UsageError(
            f"--world {chosen.world} controls a server of its own, so it takes no --dsn; use --world procs"
        )
    if chosen.world != "sim" and chosen.scheduler is not None:
        raise click.UsageError("--scheduler is for --world sim; real processes are scheduled by the operating system")
    if chosen.world != "sim" and chosen.cluster is not None:
        raise click.UsageError("--cluster is for --world sim; real processes are measured on one machine at a time")
    if chosen.world == "sim" and chosen.network is not None:
        raise click.UsageError("--network is for real processes; --world sim has links of its own")
    seeds = chosen_seeds(chosen.seeds, chosen.seed, chosen.seeds_from, chosen.shard)
    if not seeds:
        part = f" --shard {chosen.shard}" if chosen.shard else ""
        click.echo(f"nothing selected: --seeds {chosen.seeds}{part}", err=True)
        return codes.NOTHING_SELECTED
    # All of them first: a typing error runs nothing.
    orders = [_order(reference, chosen, seeds, alone=len(scenarios) == 1) for reference in scenarios]
    return asyncio.run(_run(orders, quiet=quiet, as_json=as_json))


def _order(reference: str, flags: Flags, seeds: Sequence[int], *, alone: bool) -> Order:
    """What to run for one scenario. Raises UsageError."""
    try:
        scenario = registry.find(reference)
    except registry.UnknownScenario as error:
        raise click.UsageError(str(error)) from error
    settings = chosen_settings(flags.world, flags.workers, flags.max_time)
    network: NetworkName = flags.network or "proxy"
    plan = chosen_plan(flags.plan, settings.workers, flags.world, network, own_server=flags.dsn is None)
    out = new_folder(flags.out if flags.out is None or alone else flags.out / as_name(reference), reference)
    canary = chosen_canary(reference, flags.canary)
    kinds = chosen_kinds(scenario, canary, flags.faults, flags.world, network, own_server=flags.dsn is None)
    work = Work(
        scenario=scenario,
        reference=reference,
        world=flags.world,
        options=chosen_options(scenario, flags.sizes, flags.world),
        settings=settings,
        canary=flags.canary,
        dsn=flags.dsn,
        network=network,
        logs=out / "logs",
        simulating=Simulating(scheduler=flags.scheduler or SCHEDULER),
    )
    return Order(
        work=work,
        seeds=seeds,
        plan=plan,
        kinds=kinds,
        places=chosen_places(scenario, canary),
        out=out,
        asked=None if flags.faults is None else tuple(kinds),
        jobs=flags.jobs,
        cluster=flags.cluster,
        repeat=_repeat(flags),
        shrink=flags.shrink if flags.world == "sim" else 0.0,
        corpus=flags.corpus if flags.world == "sim" and not flags.no_corpus else None,
        shard=flags.shard,
        command=_command(reference, flags),
    )


def _command(reference: str, flags: Flags) -> list[str]:
    """The words that run the whole campaign again, whatever environment and configuration say then."""
    words = ["run", reference, "--world", flags.world, "--jobs", str(flags.jobs), "--max-time", f"{flags.max_time:g}"]
    chosen = {
        "--seed": flags.seed,
        "--seeds": flags.seeds if flags.seed is None else None,
        "--seeds-from": flags.seeds_from,
        "--plan": flags.plan,
        "--faults": flags.faults,
        "--workers": flags.workers,
        "--canary": flags.canary,
        "--scheduler": flags.scheduler,
        "--cluster": flags.cluster,
        "--network": flags.network,
        "--dsn": None if flags.dsn is None else without_password(flags.dsn),
    }
    words += [word for option, value in chosen.items() if value is not None for word in (option, str(value))]
    return [*words, *(word for size in flags.sizes for word in ("--set", size))]


def _repeat(flags: Flags) -> list[str]:
    """The words that repeat what differs from the defaults; of a password in the DSN nothing is told."""
    words = [] if flags.max_time == 20.0 else ["--max-time", f"{flags.max_time:g}"]
    if flags.network is not None:
        words += ["--network", flags.network]
    if flags.dsn is not None:
        words += ["--dsn", without_password(flags.dsn)]
    return [*words, *(word for size in flags.sizes for word in ("--set", size))]


async def _run(orders: list[Order], *, quiet: bool, as_json: bool) -> int:
    def each(order: Order, outcome: Outcome) -> int:
        if not as_json:
            show(outcome.campaign, terminal.results(), report=order.out / reports.HTML_FILE)
        return codes.PASS

    outcomes, code = await conduct(orders, each, quiet=quiet or as_json)
    if as_json and outcomes:
        sys.stdout.buffer.write(document([(order.out, outcome.campaign) for order, outcome in outcomes]))
    return code


async def conduct(
    orders: Sequence[Order], each: Callable[[Order, Outcome], int], *, report: bool = True, quiet: bool = True
) -> tuple[list[Conducted], int]:
    """Run the campaigns one after the other, write their reports, and call `each`; returns the exit code too.

    Ctrl-C finishes the runs that have begun; twice, or SIGTERM, stops them.
    """
    interruption = Interruption()
    outcomes: list[Conducted] = []
    found: list[int] = []
    order = orders[0]
    try:
        with interruption.listening():
            for order in orders:
                if not interruption.going():
                    break
                kept = await replayed(order, quiet=quiet)
                outcome = await _campaign(order, interruption, quiet=quiet)
                outcome = await remembered(order, outcome, kept, interruption.going, quiet=quiet)
                outcomes.append((order, outcome))
                found.append(codes.of_campaign(outcome.campaign))
                if report:
                    with writing("writing the report", quiet=quiet):
                        found.append(await asyncio.to_thread(_write, outcome, order.out))
                found.append(each(order, outcome))
    except (ServerError, DatabaseUnusable, NetworkUnavailable, ClusterUnusable) as error:
        click.echo(f"Error: {error}", err=True)
        found.append(codes.USAGE)
    except asyncio.CancelledError:
        click.echo("interrupted; everything that was started has been stopped", err=True)
        if (order.out / STREAM_FILE).exists():
            click.echo(f"what had ended by then is shown by: duress report {shlex.quote(str(order.out))}", err=True)
        return [], codes.INTERRUPTED
    return outcomes, codes.first_of([*found, codes.INTERRUPTED] if interruption.asked else found)


async def _campaign(order: Order, interruption: Interruption, *, quiet: bool) -> Outcome:
    kinds = {kind for kind, weight in order.kinds.items() if weight}
    with Progress(order.work.reference, len(order.seeds), kinds if order.plan is None else (), quiet=quiet) as progress:
        async with _placed(order) as placed:
            outcome = await run_campaign(placed, progress, interruption.going)
    for seed, text in outcome.failures:
        click.echo(f"the harness failed at seed {seed}:\n{text}", err=True)
    for divergence in outcome.campaign.divergences[:_SHOWN]:
        click.echo(terminal.divergence(divergence), err=True)
    return outcome


@contextlib.asynccontextmanager
async def _placed(order: Order) -> AsyncIterator[Order]:
    """The order with the cluster that simulates for it, if it names one."""
    if order.cluster is None:
        yield order
        return
    async with open_cluster(order.cluster, order.work.reference) as cluster:
        yield replace(order, work=replace(order.work, cluster=cluster), jobs=cluster.lanes)


def _write(outcome: Outcome, folder: Path) -> int:
    """Write the report. When that fails, the verdict still counts: it must not hide a violation."""
    try:
        reports.write(outcome.campaign, folder)
        (folder / STREAM_FILE).unlink(missing_ok=True)  # result.json has all of it, and more
    except Exception:  # noqa: BLE001  # whatever it is, the verdict is known and shown
        click.echo(f"the report could not be written to {folder}:\n{traceback.format_exc()}", err=True)
        return codes.HARNESS_FAILED
    return codes.PASS
