"""`duress doctor`: what this machine can do, why not, and what would help; `--heal` undoes what killed harnesses left."""

import sys
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from duress.faults import journal
from duress.faults.machine import Finding, Part
from duress.faults.needs import lacking
from duress.faults.plan import KINDS
from duress.faults.worlds import ABLE

HEADINGS: Mapping[Part, str] = {"world": "worlds", "network": "networks", "fault": "faults", "tool": "tools"}


@click.command("doctor")
@click.option("--heal", is_flag=True, help="Undo what harnesses that were killed have left behind.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(heal: bool, as_json: bool) -> None:
    """Say which worlds, networks and faults work on this machine, why others do not, and what would help.

    Journals are looked for in .duress/journal, so call --heal in the folder in which the killed run was started. Nothing
    of a run that is still going is touched.
    """
    healed = _heal() if heal else []
    findings = examine()
    if as_json:
        print_document(findings, healed if heal else None)
        return
    if heal:
        for sentence in healed or ["nothing was left behind"]:
            click.echo(sentence)
        return
    for part, heading in HEADINGS.items():
        click.echo(heading)
        rows = [finding for finding in findings if finding.part == part]
        width = max(len(row.name) for row in rows)
        for row in rows:
            remedy = f" ({row.remedy})" if row.remedy else ""
            click.echo(f"  {'yes' if row.works else 'no ':<3} {row.name:<{width}}  {row.says}{remedy}")
    if left := len(list(journal.FOLDER.glob("*.jsonl"))):
        click.echo(
            f"{left} journals in {journal.FOLDER}: runs that are going, or were killed; see duress doctor --heal"
        )


def print_document(findings: list[Finding], healed: list[str] | None) -> None:
    """`worlds`, `networks`, `faults` and `tools`, each name → works, says, remedy; `healed` if that was asked for."""
    document: dict[str, Any] = {
        heading: {
            finding.name: {"works": finding.works, "says": finding.says, "remedy": finding.remedy}
            for finding in findings
            if finding.part == part
        }
        for part, heading in HEADINGS.items()
    }
    if healed is not None:
        document["healed"] = healed
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def examine() -> list[Finding]:
    """Look at the machine."""
    from duress.faults.machine import tools

    found = [*tools(), _compiler()]
    by_name = {tool.name: tool for tool in found}
    postgres = next((tool for name, tool in by_name.items() if name.startswith("postgresql") and tool.works), None)
    worlds = _worlds(by_name, postgres)
    return [*worlds, *_networks(), *_faults(), *found]


def _heal() -> list[str]:
    from duress.faults.leftovers import heal

    return heal()


def _compiler() -> Finding:
    from duress.simulator.server import build

    command_ = build.find_compiler()
    if command_ is None:
        return Finding("tool", "C compiler", False, "none on PATH", build.HOW_TO_GET)
    return Finding("tool", "C compiler", True, " ".join(command_))


def _worlds(tools: Mapping[str, Finding], postgres: Finding | None) -> list[Finding]:
    from duress.simulator.server import build

    def world(name: str, says: str, *needs: Finding | None) -> Finding:
        missing = [need for need in needs if need is None or not need.works]
        if not missing:
            return Finding("world", name, True, says)
        need = missing[0] or tools["postgresql (embedded)"]
        return Finding("world", name, False, f"needs {need.name}: {need.says}", need.remedy)

    here = build.why_not_here()
    simulated = (
        Finding("world", "sim", False, here, "use --world procs")
        if here
        else world("sim", "simulated workers, a controlled PostgreSQL", postgres, tools["C compiler"])
    )
    real = world("procs", "real processes, a private PostgreSQL", postgres)
    return [simulated, real, world("docker", "containers on a network of their own", tools["docker"])]


def _networks() -> list[Finding]:
    from duress.faults.toxiproxy import NoToxiproxy, find_toxiproxy

    own = Finding("network", "proxy", True, "duress's own, which reads PostgreSQL's protocol")
    nothing = Finding("network", "none", True, "nothing in between")
    try:
        found = find_toxiproxy()
    except NoToxiproxy as error:
        why, _, remedy = str(error).partition("; ")
        return [own, Finding("network", "toxiproxy", False, why, remedy), nothing]
    where = str(found.program) if found.address is None else "{}:{}".format(*found.address)
    return [own, Finding("network", "toxiproxy", True, where), nothing]


def _faults() -> list[Finding]:
    rows = []
    for name in KINDS:
        places = [place.replace("+", " with --network ") for place in ABLE[name]]
        why = lacking(name)
        if not places:
            rows.append(Finding("fault", name, False, "in no world yet", "leave it out"))
        elif why:
            rows.append(Finding("fault", name, False, why, "leave it out, or install what it needs"))
        else:
            rows.append(Finding("fault", name, True, ", ".join(places)))
    return rows
