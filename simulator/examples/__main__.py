"""Find each example's mistake, and see that the corrected program does not have it."""

import sys

from duress.simulator import Cell, Simulation, ensure_fixed_hash_seed
from duress.simulator.examples import EXAMPLES

SEEDS = 500


def main() -> int:
    missed = 0
    with Cell.start() as cell:
        for example in EXAMPLES:
            with Simulation(example.setup, data=example.data, cell=cell) as simulation:
                failure = simulation.find(example.broken, range(SEEDS))
                if failure is None:
                    print(f"{example.name}: not found in {SEEDS} seeds")
                else:
                    what = f"{type(failure.error).__name__}: {failure.error}".splitlines()[0]
                    print(f"{example.name}: found at seed {failure.seed}, {failure.token}: {what}")
                wrong = simulation.find(example.corrected, range(SEEDS))
                if wrong is not None:
                    print(f"{example.name}: the corrected program fails at seed {wrong.seed}: {wrong.error!r}")
                missed += failure is None or wrong is not None
    return 1 if missed else 0


if __name__ == "__main__":
    ensure_fixed_hash_seed()
    sys.exit(main())
