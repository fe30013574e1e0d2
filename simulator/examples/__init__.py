"""Programs in plain psycopg with a classic mistake each, and without it.

Each module has SETUP and DATA for a Simulation, `broken` and `corrected`. Both are whole programs: they start their
workers, and fail by an assertion (or what psycopg raises) if what they promise does not hold.

    python -m duress.simulator.examples           how many seeds each mistake takes, and a token for it
"""

from dataclasses import dataclass
from types import ModuleType

from duress.simulator.examples import claim_limit, double_charge, lock_order, lost_update, write_skew
from duress.simulator.run import Program


@dataclass(frozen=True, slots=True)
class Example:
    """One of them; `name` is its module's."""

    name: str
    setup: str
    data: str
    broken: Program
    corrected: Program


def _example(module: ModuleType) -> Example:
    name = module.__name__.rpartition(".")[2]
    return Example(name, module.SETUP, module.DATA, module.broken, module.corrected)


EXAMPLES = tuple(map(_example, (lost_update, write_skew, lock_order, double_charge, claim_limit)))
