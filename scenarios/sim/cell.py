"""The process that simulates: `python -m duress.scenarios.sim.cell PARENT`, with a PostgreSQL of its own, on one core.

It is started by a campaign, with a fixed hash seed, and ends with it.
"""

import asyncio
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, BinaryIO

from duress.faults.deathbed import die_with
from duress.scenarios.sim.wire import Ask, Opened, Opening, Told, receive, send

if TYPE_CHECKING:
    from psycopg import Connection

    from duress.simulator import Cell


def main(arguments: list[str]) -> None:
    """Open a cell, then run what is asked for until the campaign hangs up."""
    die_with(int(arguments[0]))
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.ERROR)
    asks, tells = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a scenario prints is no message
    opening = receive(asks, Opening)
    if opening is None:
        return
    if opening.canary is not None:
        from duress.scenarios.canaries import apply_canary

        apply_canary(opening.canary)
    # Imported late: a canary changes sources as they are imported.
    from duress.faults.postgres import ServerError
    from duress.simulator import Cell, SimUnavailable

    try:
        cell = Cell.start(core=opening.core, settings=opening.simulating.server)
    except (SimUnavailable, ServerError) as error:
        send(tells, Opened(refused=str(error)))
        return
    with cell:
        _serve(opening, cell, asks, tells)


def _serve(opening: Opening, cell: "Cell", asks: BinaryIO, tells: BinaryIO) -> None:
    from duress.scenarios import registry
    from duress.scenarios.observed import Diverged
    from duress.scenarios.sim.fingerprint import fingerprint
    from duress.scenarios.sim.refill import Contents, let_grow
    from duress.scenarios.sim.world import Shared, observe
    from duress.scenarios.work import furnish
    from duress.simulator import Simulation

    scenario, settings, contents = registry.load(opening.reference), opening.settings, Contents()
    postgres, simulating = cell.server.binaries.version, opening.simulating
    code = fingerprint(postgres)

    def set_up(connection: "Connection[Any]") -> None:
        asyncio.run(furnish(connection.info.dsn, scenario, opening.canary, settings.schema))
        let_grow(connection)
        contents.take(connection)

    with Simulation(set_up, data=contents.put, cell=cell, scheduler=simulating.scheduler) as simulation:
        shared = Shared(
            scenario=scenario,
            options=opening.options,
            settings=settings,
            simulation=simulation,
            simulating=simulating,
            code=code,
        )
        send(tells, Opened(postgres=postgres))
        while (ask := receive(asks, Ask)) is not None:
            try:
                varied = shared if ask.variation is None else shared.varied(ask.variation)
                told = Told(observed=observe(varied, ask.seed, ask.plan, twice=ask.twice))
            except Diverged as error:
                told = Told(diverged=error.divergence)
            except Exception as error:  # noqa: BLE001  # the campaign decides what a failure of the harness means
                told = Told(error=_failure(error), trace=simulation.told)
            send(tells, told)


def _failure(error: Exception) -> str:
    """The traceback, and last the reason on one line. The simulator's own note would name a run of its program."""
    error.__notes__ = []
    text = "".join(traceback.format_exception(error)).strip()
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return text if text.endswith(reason) else f"{text}\n{reason}"


if __name__ == "__main__":
    main(sys.argv[1:])
