"""`python -m benchmarks.determinism SEEDS`: a scenario in the simulator, each seed against itself.

* every seed twice, the second time in a fresh database and with other addresses in memory, compared entry by entry;
* of the first 50 seeds: PostgreSQL's own log (log_statement=all) in two processes, without process ids and times; the hashes
  with one and with two jobs, and in databases that were reset and that were fresh;
* with `--python VENV`: their verdicts under that environment's Python, in which duress and its dependencies are installed.

Exit codes: 0 all agreed, 1 some did not, 2 usage, 3 the harness itself failed.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import click

from benchmarks.server_log import entries, first_difference
from duress.cli.orders import order_of
from duress.cli.terminal import divergence
from duress.faults.postgres import ServerError, find_binaries
from duress.scenarios.campaign import Order, Outcome, draw, run_campaign
from duress.scenarios.result import Run
from duress.scenarios.settings import Simulating
from duress.scenarios.sim.token import Reproduction, Unusual
from duress.scenarios.work import open_ground

SAMPLE = 50  # seeds, for all but the first comparison
SHOWN = 3
CHOICES = {"15": "/usr/lib/postgresql/15/bin", "18": "embedded"}
LOGGED = {"log_statement": "all", "log_min_messages": "log"}


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison."""

    what: str
    runs: int
    compared: int
    different: int
    shown: Sequence[str] = ()  # of the differences


class Harness(Exception):
    """A campaign in which the harness failed."""


class Quiet:
    """A watcher that says nothing."""

    def began(self, seed: int) -> None: ...
    def ended(self, run: Run) -> None: ...


def order(reference: str, canary: str | None, seeds: Sequence[int], out: Path, jobs: int, how: Simulating) -> Order:
    made = order_of(Reproduction(reference=reference, seed=0, unusual=Unusual(canary=canary)), out)
    return replace(made, seeds=seeds, jobs=jobs, work=replace(made.work, simulating=how))


@dataclass(frozen=True, slots=True)
class Bench:
    """What is compared, and where its files go."""

    reference: str
    canary: str | None
    out: Path

    def campaign(self, seeds: Sequence[int], how: Simulating, jobs: int = 1) -> Outcome:
        wanted = order(self.reference, self.canary, seeds, self.out, jobs, how)
        outcome = asyncio.run(run_campaign(wanted, Quiet()))
        if outcome.failures:
            raise Harness(str(outcome.failures[0]))
        return outcome

    def twice(self, seeds: Sequence[int], jobs: int) -> Row:
        found = self.campaign(seeds, Simulating(twice_every=1), jobs).campaign
        shown = [divergence(one) for one in found.divergences[:SHOWN]]
        return Row("each seed twice, kept and fresh", 2 * len(seeds), found.run_twice, len(found.divergences), shown)

    def hashes(self, seeds: Sequence[int], how: Simulating, jobs: int = 1) -> dict[int, str | None]:
        return {run.seed: run.hash for run in self.campaign(seeds, how, jobs).campaign.runs}

    def logs(self, seeds: Sequence[int]) -> Row:
        """Two processes with a server each, which make the same runs one after the other."""
        first, second = (asyncio.run(self._logged(seeds, lane)) for lane in range(2))
        shown, messages, different = [], 0, 0
        for seed in seeds:
            messages += len(entries(first[seed]))
            parted = first_difference(first[seed], second[seed])
            if parted is not None:
                different += 1
                shown.append(f"seed {seed}, the server's log\n  1st {parted[0]}\n  2nd {parted[1]}")
        return Row(f"server log, {messages:,} messages", 2 * len(seeds), len(seeds), different, shown[:SHOWN])

    async def _logged(self, seeds: Sequence[int], lane: int) -> dict[int, str]:
        how = Simulating(twice_every=0, server=LOGGED, server_log=True)
        wanted, logs = order(self.reference, self.canary, seeds, self.out, 1, how), {}
        async with open_ground(wanted.work, lane) as ground:
            for seed in seeds:
                observed = await ground.observe(seed, draw(wanted, seed))
                assert observed.simulated is not None
                logs[seed] = observed.simulated.server_log
        return logs

    def verdicts(self, seeds: Sequence[int]) -> dict[str, str]:
        runs = self.campaign(seeds, Simulating(twice_every=0)).campaign.runs
        return {str(run.seed): " ".join([run.verdict, *sorted({v.invariant for v in run.violations})]) for run in runs}


def same(what: str, first: Mapping[int, str | None], second: Mapping[int, str | None]) -> Row:
    different = [seed for seed in first if first[seed] != second.get(seed)]
    shown = [f"{what}: seed {seed}: {first[seed]} and {second.get(seed)}" for seed in different[:SHOWN]]
    return Row(what, len(first) + len(second), len(first), len(different), shown)


def compared(bench: Bench, seeds: range) -> Iterator[Row]:
    """All comparisons on the PostgreSQL that is chosen, the short ones first."""
    sample, cores = seeds[:SAMPLE], len(os.sched_getaffinity(0))
    plain = bench.hashes(sample, Simulating(twice_every=0))
    yield same("hashes, --jobs 1 and 2", plain, bench.hashes(sample, Simulating(twice_every=0), jobs=2))
    yield same("hashes, reset and fresh database", plain, bench.hashes(sample, Simulating(twice_every=0, fresh=True)))
    yield bench.logs(sample)
    yield bench.twice(seeds, cores)


def elsewhere(bench: Bench, seeds: range, environment: str) -> Row:
    """The verdicts of another Python."""
    sample, here = seeds[:SAMPLE], bench.verdicts(seeds[:SAMPLE])
    words = [f"{environment}/bin/python", "-m", "benchmarks.determinism", str(len(sample)), "--verdicts"]
    words += ["--scenario", bench.reference, "--first", str(sample[0])]
    words += [] if bench.canary is None else ["--canary", bench.canary]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Harness(f"{' '.join(words)} failed:\n{done.stderr}")
    told = json.loads(done.stdout)
    there = {int(seed): verdict for seed, verdict in told["verdicts"].items()}
    return same(f"verdicts, Python {told['python']}", {int(seed): verdict for seed, verdict in here.items()}, there)


def heading(title: str) -> str:
    return f"{title:<56}{'runs':>7}{'compared':>10}{'different':>11}"


def line(row: Row) -> str:
    return f"{row.what:<56}{row.runs:>7,}{row.compared:>10,}{row.different:>11,}"


@click.command()
@click.argument("seeds", type=click.IntRange(min=1))
@click.option("--scenario", default="payments", show_default=True)
@click.option("--canary", help="One of the scenario's broken variants, so that verdicts differ from seed to seed.")
@click.option("--postgres", default="18", show_default=True, help="15, 18 or a folder of programs; several by commas.")
@click.option("--python", "pythons", multiple=True, metavar="VENV", help="Compare verdicts with this environment's.")
@click.option("--first", default=1, show_default=True, help="The first seed.")
@click.option("--verdicts", is_flag=True, help="Print verdicts as JSON and nothing else; for --python.")
def main(
    seeds: int,
    scenario: str,
    canary: str | None,
    postgres: str,
    pythons: Sequence[str],
    first: int,
    verdicts: bool,
) -> None:
    """Compare SEEDS runs of a scenario with themselves."""
    chosen, different = range(first, first + seeds), 0
    with tempfile.TemporaryDirectory(prefix="duress-determinism-") as folder:
        bench = Bench(scenario, canary, Path(folder))
        try:
            if verdicts:
                python = ".".join(map(str, sys.version_info[:3]))
                print(json.dumps({"python": python, "verdicts": bench.verdicts(chosen)}))
                return
            for choice in postgres.split(","):
                os.environ["DURESS_POSTGRES"] = CHOICES.get(choice, choice)
                print(heading(f"{scenario}, PostgreSQL {find_binaries().version}"), flush=True)
                others = (elsewhere(bench, chosen, environment) for environment in pythons)
                for row in chain(others, compared(bench, chosen)):
                    print("\n".join(row.shown), end="\n" if row.shown else "", file=sys.stderr)
                    different += row.different
                    print(line(row), flush=True)
        except (Harness, ServerError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(3)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
