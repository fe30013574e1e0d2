"""`python -m benchmarks`: measure, print the ratios, save `.duress/bench.json`.

Exit codes as everywhere in duress: 0 measured, 2 usage, 3 the benchmark itself failed, 4 the run is void, 130
interrupted. A missed target is printed, not an error: a gate reads the file.
"""

import datetime
import os
import sys
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks.claims import measure_claims
from benchmarks.engines import Arena
from benchmarks.environment import OUTPUT, prepare_peers
from benchmarks.kills import measure_kills
from benchmarks.peers_part import Say, Setups, measure_engines
from benchmarks.ratios import with_ratios
from benchmarks.result import Bench, Mode, save
from benchmarks.servers import file_system_of, settings_of, start_server
from benchmarks.table import show
from benchmarks.trips import measure_trips
from duress.faults.postgres import Server

PARTS = ("peers", "kills", "claims", "trips")
FAILED, VOID, INTERRUPTED = 3, 4, 130
WIDTH = 130


@click.command()
@click.option("--only", default=",".join(PARTS), show_default=True, help="Parts to run, separated by commas.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    help="Least time for each engine and mode.",
)
@click.option(
    "--kills", "kill_count", type=click.IntRange(min=1), default=60, show_default=True, help="Kills on each server."
)
@click.option(
    "--completed",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Workflows before claiming again.",
)
@click.option(
    "--fsync", type=click.Choice(["off", "on", "both"]), default="both", show_default=True, help="Which servers."
)
@click.option("--seed", type=int, default=1, show_default=True, help="For the choice of victims and their moments.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=OUTPUT / "bench.json", show_default=True
)
def main(only: str, seconds: float, kill_count: int, completed: int, fsync: str, seed: int, out: Path) -> None:
    """Measure duress beside DBOS Transact, Absurd and PostgreSQL's own limit, on one machine in one run."""
    parts = {part.strip() for part in only.split(",") if part.strip()}
    if unknown := sorted(parts - set(PARTS)):
        raise click.UsageError(f"--only: there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}.")
    say = _progress(Console(stderr=True))
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    load = os.getloadavg()[0]
    if load > 0.5 * (os.cpu_count() or 1):
        say(f"the load average is {load:.1f}: other work on this machine makes every figure doubtful")
    setups: Setups = {}
    modes = {
        wanted: _measure(wanted == "on", parts, seconds, kill_count, completed, seed, setups, say)
        for wanted in (("off", "on") if fsync == "both" else (fsync,))
    }
    bench = with_ratios(
        Bench(
            started_at=started_at,
            cores=os.cpu_count() or 1,
            load_at_start=load,
            seconds_per_engine=seconds,
            fsync_off=modes.get("off"),
            fsync_on=modes.get("on"),
        )
    )
    save(bench, out)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)  # a pipe has no width of its own
    show(bench, console)
    console.print(f"saved as {out}", soft_wrap=True)
    if bench.void:
        sys.exit(VOID)


def _measure(
    fsync: bool, parts: set[str], seconds: float, kill_count: int, completed: int, seed: int, setups: Setups, say: Say
) -> Mode:
    """All the wanted parts on one server. Claims and round trips do not depend on fsync and are measured without it."""
    peers_python = prepare_peers() if "peers" in parts else Path(sys.executable)
    with start_server(fsync=fsync) as server:
        mode = _describe(server, fsync)
        say(f"PostgreSQL {mode.postgres}, fsync {'on' if fsync else 'off'}, files on {mode.storage}")
        if fsync and mode.storage == "tmpfs":
            say("the files are in memory: fsync on costs nothing there; set TMPDIR to a folder on a disk")
        if "peers" in parts:
            arena = Arena(server, peers_python)
            mode = msgspec.structs.replace(mode, engines=measure_engines(server, arena, seconds, setups, say))
        if "kills" in parts:
            mode = msgspec.structs.replace(mode, kills=measure_kills(server, kill_count, seed, say))
        if "claims" in parts and not fsync:
            claims = [measure_claims(server, completed, snapshot_held=held, say=say) for held in (False, True)]
            mode = msgspec.structs.replace(mode, claims=claims)
        if "trips" in parts and not fsync:
            mode = msgspec.structs.replace(mode, trips=measure_trips(server, say))
    return mode


def _describe(server: Server, fsync: bool) -> Mode:
    return Mode(
        fsync=fsync,
        postgres=f"{server.binaries.version} ({server.binaries.origin})",
        storage=file_system_of(server.directory),
        settings=settings_of(server),
    )


def _progress(console: Console) -> Say:
    def say(message: str) -> None:
        console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {message}", highlight=False, soft_wrap=True)

    return say


def run() -> None:
    """The command line, with the exit codes of duress."""
    try:
        main(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except Exception:  # noqa: BLE001 the harness failed, whatever it was; the traceback says what
        Console(stderr=True).print_exception(show_locals=False)
        sys.exit(FAILED)


if __name__ == "__main__":
    run()
