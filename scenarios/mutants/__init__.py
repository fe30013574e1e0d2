"""Mutants: graded, subtle bugs of the engine that its own tests do not find; what they measure is the harness.

`python -m benchmarks.mutants` prints how many seeds and seconds it takes to find each.
"""

from typing import Final

from duress.scenarios.mutants.lives import LIVES
from duress.scenarios.mutants.mutant import Mutant
from duress.scenarios.mutants.owners import OWNERS
from duress.scenarios.mutants.writes import WRITES

__all__ = ["MUTANTS", "Mutant"]

MUTANTS: Final = {mutant.name: mutant for mutant in (*WRITES, *OWNERS, *LIVES)}
