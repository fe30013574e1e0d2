"""`duress diff`: where two simulated runs part."""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import msgspec

from duress.cli import codes
from duress.cli.orders import order_of, with_plan
from duress.cli.reproductions import planned
from duress.cli.running import conduct
from duress.reports.difference import difference, parting
from duress.reports.trace import KEY, Trace, UnreadableTrace, load, traces_of
from duress.scenarios.campaign import Order, Outcome
from duress.scenarios.observed import Happening
from duress.scenarios.sim import token
from duress.scenarios.sim.token import Reproduction


@click.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(first: str, second: str, as_json: bool) -> int:
    """Show the first difference of two simulated runs A and B, with what comes before and after on both sides.

    Each is a token or whatever else names one run to `duress replay`, which is run again, or a trace that
    `duress replay --trace FILE.json` wrote, which is read.

    Exit code: 0 the same run, 1 they differ, 2 usage, 3 the harness failed.
    """
    asked = [_asked(first), _asked(second)]
    with tempfile.TemporaryDirectory(prefix="duress-diff-") as folder:
        found = asyncio.run(_traced(asked, Path(folder)))
    if isinstance(found, int):
        return found
    a, b = found
    if as_json:
        sys.stdout.buffer.write(_document(a, b))
    else:
        click.echo("\n".join(difference(a, b)))
    return codes.PASS if parting(a.entries, b.entries) is None and a.verdict == b.verdict else codes.VIOLATED


def _asked(target: str) -> Trace | Reproduction:
    path = Path(target)
    if path.suffix == ".json" and path.is_file() and f'"{KEY}"'.encode() in path.read_bytes():
        try:
            return load(path)
        except UnreadableTrace as error:
            raise click.UsageError(str(error)) from error
    found = planned(target)
    if len(found) != 1:
        raise click.UsageError(f"{target} names {len(found)} runs; name one, by its token")
    return with_plan(found[0].run, found[0].plan)


async def _traced(asked: Sequence[Trace | Reproduction], folder: Path) -> list[Trace] | int:
    """Both traces; or the exit code where a run failed. Each run has a server of its own, since one may be broken."""
    traces: list[Trace] = []
    for number, one in enumerate(asked):
        if isinstance(one, Trace):
            traces.append(one)
            continue
        entries: list[Happening] = []
        order = order_of(one, folder / str(number), partial(_keep, entries))
        outcomes, code = await conduct([order], _nothing, report=False)
        found = traces_of(outcomes[0][1].campaign, {one.seed: tuple(entries)}, token.encode(one)) if outcomes else []
        if not found:
            return code
        traces += found
    return traces


def _keep(entries: list[Happening], seed: int, told: Sequence[Happening]) -> None:
    entries.extend(told)


def _nothing(order: Order, outcome: Outcome) -> int:
    return codes.PASS


def _document(a: Trace, b: Trace) -> bytes:
    index = parting(a.entries, b.entries)

    def side(trace: Trace) -> dict[str, object]:
        entry = trace.entries[index] if index is not None and index < len(trace.entries) else None
        return {"token": trace.token, "verdict": trace.verdict, "said": trace.said, "entry": entry}

    found = {"same": index is None and a.verdict == b.verdict, "equal_entries": index, "a": side(a), "b": side(b)}
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
