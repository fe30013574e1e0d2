"""`duress list`: the scenarios, or the canaries of one."""

import sys
from typing import Any

import click
import msgspec

from duress.scenarios import registry


@click.command("list")
@click.option(
    "--canaries",
    "scenario",
    metavar="SCENARIO",
    help="List the canaries of SCENARIO: name, then the invariants that it breaks.",
)
@click.option(
    "--mutants", is_flag=True, help="List the mutants of the engine: name, then the invariants that it breaks."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(scenario: str | None, mutants: bool, as_json: bool) -> None:
    """List the scenarios that come with duress; with --canaries, the broken variants of one; with --mutants, subtle ones."""
    try:
        rows = _mutants() if mutants else _scenarios() if scenario is None else _canaries(scenario)
    except registry.UnknownScenario as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row['doc'] if 'breaks' not in row else ' '.join(row['breaks'])}")


def _scenarios() -> list[dict[str, Any]]:
    found = [registry.find(name) for name in registry.names()]
    return [
        {
            "name": scenario.name,
            "doc": scenario.doc,
            "faults": sorted(scenario.faults),
            "invariants": scenario.invariants,
            "options": scenario.options,
        }
        for scenario in found
    ]


def _canaries(scenario: str) -> list[dict[str, Any]]:
    from duress.scenarios.canaries import canaries

    registry.find(scenario)
    return [{"name": one.name, "breaks": one.breaks, "doc": one.doc} for one in canaries(scenario).values()]


def _mutants() -> list[dict[str, Any]]:
    from duress.scenarios.mutants import MUTANTS

    return [
        {
            "name": one.name,
            "breaks": one.breaks,
            "doc": one.doc,
            "grade": one.grade,
            "takes": one.takes,
            "like": one.like,
        }
        for one in MUTANTS.values()
    ]
