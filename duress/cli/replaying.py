"""`duress replay`: a simulated run again, in a fresh cell, whether it is the same, and what happened in it."""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from duress import reports
from duress.cli import codes, terminal
from duress.cli.document import document
from duress.cli.folders import new_folder
from duress.cli.orders import order_of, with_plan
from duress.cli.reproductions import planned
from duress.cli.running import conduct
from duress.cli.tracing import Traces
from duress.reports.terminal import show
from duress.scenarios.campaign import Order, Outcome
from duress.scenarios.sim import token
from duress.scenarios.sim.token import Reproduction


@dataclass(frozen=True, slots=True)
class Comparison:
    """A replay beside what its token says. `same`: None where that cannot be told."""

    token: str | None
    same: bool | None
    said: str
    code: int = codes.PASS


@click.command("replay")
@click.argument("target", metavar="TOKEN|FILE", required=False)
@click.option(
    "--trace",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Show what happened, or write it to FILE: a timeline, or a Chrome trace for ui.perfetto.dev if that is *.json.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the report, and with --trace both forms of that, to this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(target: str | None, trace: str | None, out: Path | None, as_json: bool) -> int:
    """Run a simulated run again, in a fresh server, and say whether it is the same to the byte.

    TOKEN is what the report of a run in the world sim gives. A FILE may hold tokens, or be a trace, a result.json or its
    folder (whose runs that did not pass are meant), or a seed-N.plan.json in that folder, which may have been edited.

    Exit code: as duress run; 3 also when the same code gives another run than the token names.
    """
    if target is None:
        raise click.UsageError("give a TOKEN or FILE first, and --trace after it: duress replay TOKEN --trace")
    if trace == "-" and as_json:
        raise click.UsageError("--json prints nothing else; give --trace a FILE, or use --out")
    chosen = [with_plan(one.run, one.plan) for one in planned(target)]
    if trace not in (None, "-") and len(chosen) > 1:
        raise click.UsageError(
            f"{target} names {len(chosen)} runs, and --trace {trace} is one file; use --out DIRECTORY"
        )
    with _folders(chosen, out) as folders:
        traces = None if trace is None else Traces(trace, to_folder=out is not None)
        orders = [
            order_of(run, folder, None if traces is None else traces.keep)
            for run, folder in zip(chosen, folders, strict=True)
        ]
        return asyncio.run(_replay(chosen, orders, traces, report=out is not None, as_json=as_json))


@contextlib.contextmanager
def _folders(chosen: Sequence[Reproduction], out: Path | None) -> Iterator[list[Path]]:
    """One for the files of each run; without `out` they go when the command ends."""
    if out is not None:
        several = len(chosen) > 1
        yield [new_folder(out / f"seed-{run.seed}" if several else out, run.reference) for run in chosen]
        return
    with tempfile.TemporaryDirectory(prefix="duress-replay-") as folder:
        yield [new_folder(Path(folder) / str(number), run.reference) for number, run in enumerate(chosen)]


async def _replay(
    chosen: list[Reproduction], orders: list[Order], traces: Traces | None, *, report: bool, as_json: bool
) -> int:
    named, compared = iter(chosen), list[Comparison]()

    def each(order: Order, outcome: Outcome) -> int:
        run = next(named)
        compared.append(compare(run, outcome))
        if traces is not None:
            traces.write(outcome.campaign, order.out, token.encode(run))
        if not as_json:
            click.echo(f"{compared[-1].said}\n")
            show(outcome.campaign, terminal.results(), report=order.out / reports.HTML_FILE if report else None)
        return compared[-1].code

    outcomes, code = await conduct(orders, each, report=report, quiet=as_json)
    if as_json and outcomes:
        replays = [{"token": one.token, "same": one.same, "said": one.said} for one in compared]
        campaigns = [(order.out, outcome.campaign) for order, outcome in outcomes]
        sys.stdout.buffer.write(document(campaigns, replays=replays))
    return code


def compare(named: Reproduction, outcome: Outcome) -> Comparison:
    """Whether the run was the one that was named; if not, who can be blamed for it."""
    if not outcome.campaign.runs:
        return Comparison(None, None, "there is no run to compare: it did not come to its end")
    [run] = outcome.campaign.runs
    assert run.token is not None and run.hash is not None
    now = token.decode(run.token)
    same = named.same(run.hash)
    if same:
        return Comparison(run.token, True, f"the same run, to the byte: hash {run.hash}")
    if same is None:
        again = f"nobody has seen this run before, so it was run twice, and was the same: hash {run.hash}"
        return Comparison(run.token, None, f"{again}\nits token is {run.token}")
    if now.code == named.code:
        said = (
            f"not the run that the token names, though the code is the same: hash {named.hash}… there, {run.hash} here. "
            f"Something outside of the simulation decides it. Its token is now {run.token}"
        )
        return Comparison(run.token, False, said, codes.HARNESS_FAILED)
    why = "the code, or a version of what it stands on, has changed since"
    if now.unusual.postgres != named.unusual.postgres:
        why = f"it is of PostgreSQL {named.unusual.postgres}, and this is {now.unusual.postgres}"
    return Comparison(run.token, False, f"another run than the token names: {why}. Its token is now {run.token}")
