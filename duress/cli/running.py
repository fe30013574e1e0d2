"""`duress run`: scenarios under faults, judged and reported."""

import asyncio
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from duress import reports
from duress.cli import codes, terminal
from duress.cli.choices import (
    chosen_canary,
    chosen_kinds,
    chosen_options,
    chosen_places,
    chosen_plan,
    chosen_settings,
    parse_faults,
)
from duress.cli.document import document
from duress.faults.postgres import ServerError
from duress.faults.worlds import World
from duress.reports.terminal import show
from duress.scenarios import registry
from duress.scenarios.campaign import Order, Outcome, run_campaign
from duress.scenarios.procs.database import DatabaseUnusable, without_password
from duress.scenarios.settings import SCHEDULER, Simulating
from duress.scenarios.work import Work

LATER = ("docker",)
OUT = Path(".duress")
_SHOWN = 3  # divergences; the report has them all
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
    scheduler: str | None


@click.command("run")
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option(
    "--world",
    type=click.Choice(["procs", "sim", "docker"]),
    default="procs",
    envvar="DURESS_WORLD",
    show_default=True,
    help="Where to run: real processes, simulated, containers.",
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
@click.option("--plan", type=click.Path(path_type=Path), help="Take the faults from this file instead of drawing them.")
@click.option(
    "--faults",
    type=parse_faults,
    envvar="DURESS_FAULTS",
    help="Draw only these kinds, like kill-worker,pause-worker; or none.",
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
@click.option("--canary", help="Break the engine or the workload on purpose; see duress list --canaries SCENARIO.")
@click.option("--dsn", envvar="DURESS_DSN", help="Use this PostgreSQL server instead of one that duress starts.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DURESS_OUT",
    help="Folder for results.  [default: .duress/TIME-SCENARIO]",
)
@click.option("--set", "sizes", multiple=True, metavar="NAME=N", help="Set a size of the scenario, like transfers=200.")
@click.option(
    "--scheduler",
    type=click.Choice(["fifo", "random", "pct", "pos"]),
    help=f"In sim: who goes next among those that can.  [default: {SCHEDULER}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(scenarios: tuple[str, ...], as_json: bool, **flags: object) -> int:
    """Run each SCENARIO (a name from `duress list`, or your own as package.module:name) once per seed.

    Exit code: 0 pass, 1 an invariant was violated, 2 usage, 3 the harness failed, 4 inconclusive, 5 nothing selected,
    130 interrupted.
    """
    chosen = Flags(**flags)  # type: ignore[arg-type]
    if chosen.world in LATER:
        raise click.UsageError(f"--world {chosen.world} is not there yet in this version; use --world procs")
    if chosen.world == "sim" and chosen.dsn is not None:
        raise click.UsageError("--world sim controls a server of its own, so it takes no --dsn; use --world procs")
    if chosen.world != "sim" and chosen.scheduler is not None:
        raise click.UsageError("--scheduler is for --world sim; real processes are scheduled by the operating system")
    if chosen.seed is None and chosen.seeds == 0:
        click.echo("nothing selected: --seeds 0", err=True)
        return codes.NOTHING_SELECTED
    orders = [_order(reference, chosen) for reference in scenarios]  # all of them first: a typing error runs nothing
    return asyncio.run(_run(orders, as_json))


def _order(reference: str, flags: Flags) -> Order:
    """What to run for one scenario. Raises UsageError."""
    try:
        scenario = registry.find(reference)
    except registry.UnknownScenario as error:
        raise click.UsageError(str(error)) from error
    settings = chosen_settings(flags.world, flags.workers, flags.max_time)
    plan = chosen_plan(flags.plan, settings.workers, flags.world, own_server=flags.dsn is None)
    out = folder_for(flags.out, reference)
    canary = chosen_canary(reference, flags.canary)
    kinds = chosen_kinds(scenario, canary, flags.faults, flags.world, own_server=flags.dsn is None)
    work = Work(
        scenario=scenario,
        reference=reference,
        world=flags.world,
        options=chosen_options(scenario, flags.sizes, flags.world),
        settings=settings,
        canary=flags.canary,
        dsn=flags.dsn,
        logs=out / "logs",
        simulating=Simulating(scheduler=flags.scheduler or SCHEDULER),
    )
    return Order(
        work=work,
        seeds=[flags.seed] if flags.seed is not None else range(1, flags.seeds + 1),
        plan=plan,
        kinds=kinds,
        places=chosen_places(scenario, canary),
        out=out,
        asked=None if flags.faults is None else tuple(kinds),
        jobs=flags.jobs,
        repeat=_repeat(flags),
    )


def _repeat(flags: Flags) -> list[str]:
    """The words that repeat what differs from the defaults; of a password in the DSN nothing is told."""
    words = [] if flags.max_time == 20.0 else ["--max-time", f"{flags.max_time:g}"]
    if flags.dsn is not None:
        words += ["--dsn", without_password(flags.dsn)]
    return [*words, *(word for size in flags.sizes for word in ("--set", size))]


def folder_for(out: Path | None, reference: str) -> Path:
    """A new folder for the results, made now, so that a place where we may not write is found before the run."""
    name = "".join(letter if letter.isalnum() else "-" for letter in reference)
    folder = out or OUT / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    for attempt in range(1, 1000):
        try:
            folder.mkdir(parents=True, exist_ok=out is not None)
            return folder
        except FileExistsError:
            if out is not None:
                raise click.UsageError(f"--out {out} is not a folder") from None
            folder = folder.with_name(f"{folder.name.split('.')[0]}.{attempt}")
        except OSError as error:
            raise click.UsageError(f"the results cannot be written to {folder}: {error.strerror}") from error
    raise click.UsageError(f"no free name for results beside {folder}")


async def _run(orders: list[Order], as_json: bool) -> int:
    def each(order: Order, outcome: Outcome) -> int:
        if not as_json:
            show(outcome.campaign, terminal.results(), report=order.out / reports.HTML_FILE)
        return codes.PASS

    outcomes, code = await conduct(orders, each)
    if as_json and outcomes:
        sys.stdout.buffer.write(document([(order.out, outcome.campaign) for order, outcome in outcomes]))
    return code


async def conduct(orders: Sequence[Order], each: Callable[[Order, Outcome], int]) -> tuple[list[Conducted], int]:
    """Run the campaigns one after the other, write their reports, and call `each`; returns the exit code too.

    SIGTERM is the same as Ctrl-C.
    """
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    outcomes: list[Conducted] = []
    found: list[int] = []
    try:
        for order in orders:
            outcome = await _campaign(order)
            outcomes.append((order, outcome))
            found.append(_code(outcome))
            found.append(await asyncio.to_thread(_write, outcome, order.out))
            found.append(each(order, outcome))
    except (ServerError, DatabaseUnusable) as error:
        click.echo(f"Error: {error}", err=True)
        found.append(codes.USAGE)
    except asyncio.CancelledError:
        click.echo("interrupted; everything that was started has been stopped", err=True)
        return [], codes.INTERRUPTED
    return outcomes, codes.first_of(found)


async def _campaign(order: Order) -> Outcome:
    with terminal.Progress(order.work.reference, len(order.seeds)) as progress:
        outcome = await run_campaign(order, progress)
    for seed, text in outcome.failures:
        click.echo(f"the harness failed at seed {seed}:\n{text}", err=True)
    for divergence in outcome.campaign.divergences[:_SHOWN]:
        click.echo(terminal.divergence(divergence), err=True)
    return outcome


def _write(outcome: Outcome, folder: Path) -> int:
    """Write the report. When that fails, the verdict still counts: it must not hide a violation."""
    try:
        reports.write(outcome.campaign, folder)
    except Exception:  # noqa: BLE001  # whatever it is, the verdict is known and shown
        click.echo(f"the report could not be written to {folder}:\n{traceback.format_exc()}", err=True)
        return codes.HARNESS_FAILED
    return codes.PASS


def _code(outcome: Outcome) -> int:
    """The exit code of a campaign; when the harness failed, what is inconclusive is so for that reason."""
    own = codes.OF_VERDICT[outcome.campaign.verdict]
    return codes.first_of([own, codes.HARNESS_FAILED]) if outcome.harness_failed else own
