"""Everything that harnesses which are gone may have left on this machine, undone: `heal`.

Three places are looked at: the journals of a folder (stopped processes, programs, rules of the kernel), folders of private
PostgreSQL servers whose guardian was killed too, and containers and networks by their label. What belongs to a harness
that lives is left alone.
"""

import contextlib
from pathlib import Path

from duress.faults import containers
from duress.faults.journal import FOLDER, heal_leftovers
from duress.faults.postgres import remove_leftovers


def heal(journal: Path = FOLDER) -> list[str]:
    """Undo it; a sentence for each thing that was done, or that could not be done."""
    said = heal_leftovers(journal)
    said += [
        f"removed {folder}, which a PostgreSQL server of a harness that is gone had used"
        for folder in remove_leftovers()
    ]
    with contextlib.suppress(containers.NoDocker), contextlib.closing(containers.connect()) as client:
        said += containers.remove_leftovers(client)
    return said
