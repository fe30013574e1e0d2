"""`python -m benchmarks.gate`: does the gate see what it must see, and nothing else, on real runs?

Two builds that differ in nothing but the lease (500 and 600 ms) must be told apart by the recoveries of 60 paused workers
a side. A build compared with itself must hardly ever be called slower: fresh campaigns of other seeds, again and again.
Prints both; exit code 0 if they hold, 1 if not.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click

from duress.faults.worlds import World
from duress.reports.gate import Finding, Limits, judge
from duress.reports.gate.limits import Baseline
from duress.reports.summary import RANKED_BY, summarise
from duress.scenarios import registry
from duress.scenarios.campaign import Order, run_campaign
from duress.scenarios.result import Campaign, Run
from duress.scenarios.settings import USUAL
from duress.scenarios.work import Work

KIND = "pause-worker"
LEASES = (0.5, 0.6)  # seconds
TOLERATED = 1  # an unchanged build called slower, of all repetitions
LIMITS = Limits(
    recovery={}, baseline=Baseline(phases=(RANKED_BY,), kinds=(KIND,), settings_may_differ=("lease", "heartbeat"))
)


@dataclass
class Pauses:
    """Counts recoveries while a campaign runs: it goes on until there are enough. A `Watcher`."""

    wanted: int
    seen: int = 0

    def began(self, seed: int) -> None: ...

    def ended(self, run: Run) -> None:
        self.seen += sum(fault.kind == KIND and fault.recovery.first is not None for fault in run.faults)

    def going(self) -> bool:
        return self.seen < self.wanted


def campaign(world: World, lease: float, pauses: int, first_seed: int, jobs: int) -> Campaign:
    """Runs of payments in which workers are paused, until enough of them have been recovered from."""
    scenario = registry.find("payments")
    watcher = Pauses(pauses)
    with tempfile.TemporaryDirectory(prefix="duress-gate-") as folder:
        out = Path(folder)
        work = Work(
            scenario=scenario,
            reference="payments",
            world=world,
            options={**scenario.options, **(scenario.simulated if world == "sim" else {})},
            settings=replace(USUAL[world], lease=lease, heartbeat=lease / 4),
            canary=None,
            dsn=None,
            logs=out / "logs",
        )
        order = Order(
            work=work,
            seeds=range(first_seed, first_seed + 100 * pauses),
            plan=None,
            kinds={KIND: 1.0},
            places=scenario.places,
            out=out,
            jobs=jobs,
        )
        outcome = asyncio.run(run_campaign(order, watcher, watcher.going))
    if outcome.failures:
        raise click.ClickException(f"the harness failed at seed {outcome.failures[0][0]}:\n{outcome.failures[0][1]}")
    return outcome.campaign


def compared(now: Campaign, then: Campaign) -> Finding:
    """What the gate says to one campaign with the other as its baseline."""
    gate = judge(now, LIMITS, limits_name="benchmarks.gate", baseline=then, baseline_name="the other")
    return next(finding for finding in gate.findings if finding.limit.startswith("baseline"))


def told_apart(world: World, pauses: int, jobs: int) -> Iterator[tuple[str, bool]]:
    """The longer lease is slower than the shorter one, and not the other way round."""
    shorter, longer = (
        campaign(world, lease, pauses, 1 + number * 100_000, jobs) for number, lease in enumerate(LEASES)
    )
    for now, then, expected in ((longer, shorter, "missed"), (shorter, longer, "kept")):
        finding = compared(now, then)
        words = f"lease {now.settings['lease']} s against {then.settings['lease']} s: {finding.state}; {finding.seen}"
        yield words, finding.state == expected


def unchanged(world: World, pauses: int, repetitions: int, jobs: int) -> Iterator[tuple[str, bool]]:
    """How often a build is called slower than itself."""
    flagged = 0
    for number in range(repetitions):
        first = 1_000_000 * (number + 1)
        then, now = (campaign(world, LEASES[0], pauses, first + part * 500_000, jobs) for part in range(2))
        finding = compared(now, then)
        flagged += finding.state == "missed"
        n = summarise(now).kinds[0].first.n
        click.echo(f"  {number + 1:2d}: {finding.state}, n = {n}; {finding.seen}", err=True)
    yield f"the same build: called slower in {flagged} of {repetitions} comparisons", flagged <= TOLERATED


@click.command()
@click.option("--world", type=click.Choice(["procs", "sim"]), default="procs", show_default=True)
@click.option("--pauses", type=click.IntRange(min=6), default=60, show_default=True, help="Recoveries a side.")
@click.option("--repetitions", type=click.IntRange(min=0), default=20, show_default=True, help="Of the same build.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Runs at a time.")
def main(world: World, pauses: int, repetitions: int, jobs: int) -> None:
    """Check the gate on real runs of payments, with paused workers."""
    began, held = time.monotonic(), True
    results = told_apart(world, pauses, jobs)
    for words, as_expected in (*results, *(unchanged(world, pauses, repetitions, jobs) if repetitions else ())):
        click.echo(f"{'✓' if as_expected else '✗'} {words}")
        held &= as_expected
    click.echo(f"world {world}, {pauses} pauses a side, {time.monotonic() - began:.0f} s")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
