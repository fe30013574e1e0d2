"""The matrix of faults and bugs: for each kind of fault a canary or mutant that is caught with it, and passes without it.

`python -m benchmarks.matrix [KIND…]` runs payments in the simulated world with the bug: first without faults, which must pass,
then with plans of that kind alone until an invariant is broken. Ends with 1 if a kind has not earned its place.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

from duress.cli.orders import order_of
from duress.faults.generate import generate
from duress.faults.plan import KINDS, Plan
from duress.faults.worlds import can
from duress.scenarios import registry
from duress.scenarios.invariants import judge
from duress.scenarios.settings import Simulating, bounds_of
from duress.scenarios.sim.token import Reproduction, Unusual
from duress.scenarios.work import Ground, open_ground

PAYMENTS: Final = registry.find("payments")
QUIET: Final = 6  # seeds without faults
MOST: Final = 40  # seeds with the fault


@dataclass(frozen=True, slots=True)
class Bug:
    """A canary or mutant. `options` are those in which it passes without faults: transfers that meet may lose races."""

    name: str
    options: Mapping[str, int] = field(default_factory=dict)


_APART: Final = Bug("checkpoint-apart")
BUGS: Final[Mapping[str, Bug]] = {
    **{kind: _APART for kind in KINDS if can(kind, "sim")},
    "stop-worker": Bug("replay-forgets-last-step"),
    "slow-link": Bug("slow-write-is-written"),
    "lose-notify": Bug("notifications-trusted"),
    "terminate-backend": Bug("lost-connection-is-failure"),
    "lock-timeout": Bug("lock-timeout-is-failure"),
    "deadlock": Bug("deadlock-is-failure"),
    "serialization-failure": Bug("late-snapshot-is-failure", {"lanes": 1}),
    "pause-postgres": Bug("lease-not-looked-at-again"),
    "clock-skew": Bug("sleep-by-wall-clock"),
    "clock-jump": Bug("sleep-by-wall-clock"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one kind: `quiet` are the invariants that were broken without it, `caught` those with it, at `seed`."""

    kind: str
    bug: Bug
    quiet: tuple[str, ...]
    seed: int
    caught: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return bool(self.caught) and not self.quiet

    def __str__(self) -> str:
        found = f"{', '.join(self.caught)} at seed {self.seed}" if self.caught else f"NOT CAUGHT in {self.seed} seeds"
        without = f"FAILS: {', '.join(self.quiet)}" if self.quiet else f"passes {QUIET} seeds"
        return f"{self.kind:<28}  {self.bug.name:<28}  {found:<28}  {without}"


async def row(kind: str, bug: Bug, logs: Path) -> Row:
    """Measure one kind."""
    asked = Reproduction(reference="payments", seed=0, unusual=Unusual(canary=bug.name, options=bug.options))
    work = replace(order_of(asked, logs).work, simulating=Simulating(twice_every=0))
    async with open_ground(work, 0) as ground:
        quiet: set[str] = set()
        for seed in range(1, QUIET + 1):
            quiet |= await _broken(ground, seed, Plan())
        bounds = bounds_of(work.settings, {kind: 1.0}, PAYMENTS.places)
        for seed in range(1, MOST + 1):
            caught = await _broken(ground, seed, generate(Random(f"plan {seed}"), bounds))
            if caught:
                break
        return Row(kind, bug, tuple(sorted(quiet)), seed, tuple(sorted(caught)))


async def _broken(ground: Ground, seed: int, plan: Plan) -> set[str]:
    observed = await ground.observe(seed, plan)
    return {finding.invariant for finding in judge(observed.evidence, PAYMENTS.invariants)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*BUGS, []], help="default: all that the simulated world can do")
    kinds = parser.parse_args().kinds or list(BUGS)
    print(f"{'fault':<28}  {'canary or mutant':<28}  {'caught with it':<28}  without faults")
    rows = []
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="duress-matrix-") as name:
            rows.append(asyncio.run(row(kind, BUGS[kind], Path(name))))
        print(rows[-1], flush=True)
    print("not in this world: " + ", ".join(kind for kind in KINDS if kind not in BUGS))
    sys.exit(not all(one.holds for one in rows))


if __name__ == "__main__":
    main()
