"""Print the table of faults and worlds. Usage: python -m benchmarks.fault_table [PLACE…]"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.fault_table.play import PLACES, Line, NotHeld, Place, open_stage, rows

WIDTHS = (32, 10, 14, 64)


def show(line: Line) -> None:
    cells = (line.row, line.place, line.healed, line.struck)
    print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)), line.saw, flush=True)


async def table(place: Place, wanted: str) -> int:
    """Print the rows of one place; returns how many are not as they should be."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="duress-table-") as name:
        async with open_stage(place, Path(name)) as stage:
            for row in rows(place):
                if wanted not in row.name:
                    continue
                try:
                    show(await stage.play(row))
                except NotHeld as error:
                    failed += 1
                    print(f"{row.name:<32}  {place:<10}  NOT HELD: {error}", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("places", nargs="*", choices=[*PLACES, []], help="default: sim and procs")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    asked = parser.parse_args()
    show(Line("fault", "world", "client saw", "struck, as seen from outside", "healed"))  # type: ignore[arg-type]
    sys.exit(bool(sum(asyncio.run(table(place, asked.only)) for place in asked.places or ("sim", "procs"))))


if __name__ == "__main__":
    main()
