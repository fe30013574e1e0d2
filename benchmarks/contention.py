"""`python -m benchmarks.contention SEEDS REPETITIONS`: the proof that a run follows from its seed.

Every seed is run REPETITIONS times on one server, and each run is compared with the first of its seed, step by step. Exit
codes: 0 all agreed, 1 some did not, 2 usage, 3 the harness itself failed, 130 interrupted.
"""

import sys
import time
from collections.abc import Iterator

import click

from benchmarks.contention_program import Contest, Counts, Step
from duress.faults.postgres import ServerError, find_binaries
from duress.simulator.server import Cell, HarnessError, SimUnavailable

SHOWN = 3
BEFORE = 6
FAILED = 3
CHOICES = {"15": "/usr/lib/postgresql/15/bin", "18": "embedded"}


@click.command()
@click.argument("seeds", type=click.IntRange(min=1))
@click.argument("repetitions", type=click.IntRange(min=2))
@click.option(
    "--postgres", default="18", show_default=True, help="15 (Debian's), 18 (the wheel's), or a folder of programs."
)
@click.option("--first", default=0, show_default=True, help="The first seed.")
def main(seeds: int, repetitions: int, postgres: str, first: int) -> None:
    """Run SEEDS random programs REPETITIONS times each, and compare the runs of each seed."""
    try:
        with Cell.start(binaries=find_binaries(CHOICES.get(postgres, postgres))) as cell:
            contest = Contest(cell)
            started = time.perf_counter()
            divergences = 0
            for seed, difference in compare(contest, range(first, first + seeds), repetitions):
                divergences += 1
                if divergences <= SHOWN:
                    print(f"seed {seed} diverges\n{difference}", file=sys.stderr)
            print(summary(contest.counts, cell, seeds * repetitions, divergences, time.perf_counter() - started))
    except (HarnessError, SimUnavailable, ServerError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(FAILED)
    sys.exit(1 if divergences else 0)


def compare(contest: Contest, seeds: range, repetitions: int) -> Iterator[tuple[int, str]]:
    """Run all seeds, then all again, and so on; yields a seed and the first difference for each run that differs.

    Again, and not each at once: what one run leaves behind for the next would otherwise always be the same.
    """
    firsts: dict[int, list[Step]] = {}
    for _ in range(repetitions):
        for seed in seeds:
            steps = contest.run(seed)
            if firsts.setdefault(seed, steps) != steps:
                yield seed, first_difference(firsts[seed], steps)


def first_difference(one: list[Step], other: list[Step]) -> str:
    """The last steps that two runs share, and the first in which they differ, of both."""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    lines = [f"  {i:4}   {one[i]}" for i in range(max(0, at - BEFORE), at)]
    for name, steps in (("first", one), ("later", other)):
        lines.append(f"  {at:4} {name}: {steps[at] if at < len(steps) else 'nothing more'}")
    return "\n".join(lines)


def summary(counts: Counts, cell: Cell, runs: int, divergences: int, seconds: float) -> str:
    """The figures, a line each."""
    waits, errors = (
        ", ".join(f"{name} {count:,}" for name, count in counter.most_common())
        for counter in (counts.waits, counts.errors)
    )
    return "\n".join(
        (
            f"PostgreSQL    {cell.server.binaries.version}",
            f"runs          {runs:,} in {seconds:.1f} s",
            f"statements    {counts.statements:,}",
            f"waits         {counts.waits.total():,} ({waits})",
            f"holds         {counts.holds:,}",
            f"timers        {counts.timers:,}",
            f"errors        {counts.errors.total():,} ({errors})",
            f"µs/statement  {seconds / counts.statements * 1e6:.0f}",
            f"divergences   {divergences}",
        )
    )


if __name__ == "__main__":
    main()
