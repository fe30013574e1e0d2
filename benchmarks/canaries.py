"""`python -m benchmarks.canaries [NAME…]`: how many seeds it takes in the simulator to find each broken variant of payments.

All kinds of faults are drawn, as `duress run payments` does. The token of the first run that breaks an invariant is then
replayed by `duress replay` in a process of its own, which must come to the same hash and break the same invariants.

Exit codes: 0 all were found and replayed, 1 some were not, 2 usage.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from duress.cli.orders import order_of
from duress.scenarios.campaign import run_campaign
from duress.scenarios.canaries import canaries
from duress.scenarios.result import Run
from duress.scenarios.settings import Simulating
from duress.scenarios.sim.token import Reproduction, Unusual

SCENARIO = "payments"


@dataclass(slots=True)
class UntilFound:
    """Watches a campaign until a run of it fails."""

    ended_after: int = 0
    found: list[Run] = field(default_factory=list)

    def began(self, seed: int) -> None: ...

    def ended(self, run: Run) -> None:
        self.ended_after += 1
        if run.verdict == "fail":
            self.found.append(run)


def search(canary: str, most: int, jobs: int, out: Path) -> UntilFound:
    """Run seeds from 1 on, until one fails or so many have not."""
    order = order_of(Reproduction(reference=SCENARIO, seed=0, unusual=Unusual(canary=canary)), out)
    work = replace(order.work, simulating=Simulating(twice_every=0))
    watch = UntilFound()
    wanted = replace(order, seeds=range(1, most + 1), jobs=jobs, work=work)
    outcome = asyncio.run(run_campaign(wanted, watch, lambda: not watch.found))
    if outcome.failures:
        raise click.ClickException(str(outcome.failures[0]))
    return watch


def replays(run: Run, out: Path) -> bool:
    """Whether its token, in a new process, gives the same run."""
    assert run.token is not None
    words = [sys.executable, "-m", "duress", "replay", run.token, "--out", str(out)]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode != 1:
        return False
    [again] = json.loads((out / "result.json").read_bytes())["runs"]
    broken = {one["invariant"] for one in again["violations"]}
    return bool(again["hash"] == run.hash and broken == {one.invariant for one in run.violations})


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seeds", default=200, show_default=True, type=click.IntRange(min=1), help="Give up after so many.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(min=1))
def main(names: tuple[str, ...], seeds: int, jobs: int) -> None:
    """Search for each canary of payments, or for those named."""
    known = tuple(canaries(SCENARIO))
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"no canary {unknown[0]!r}. There is: {', '.join(known)}")
    missing = 0
    print(f"{'canary':<28}{'seed':>6}{'runs':>6}{'seconds':>9}  {'replays':<8} broken")
    for name in names or known:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="duress-canary-") as folder:
            watch = search(name, seeds, jobs, Path(folder, "found"))
            took = time.monotonic() - began
            first = min(watch.found, key=lambda run: run.seed, default=None)
            again = first is not None and replays(first, Path(folder, "again"))
        missing += not again
        seed, broken = (
            ("-", "") if first is None else (first.seed, " ".join(sorted({v.invariant for v in first.violations})))
        )
        print(
            f"{name:<28}{seed:>6}{watch.ended_after:>6}{took:>9.1f}  {'yes' if again else 'NO':<8} {broken}", flush=True
        )
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
