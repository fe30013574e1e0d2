"""`python -m benchmarks.proxy`: what an idle network in between costs, ours and Toxiproxy, beside a direct connection.

Round trips of `select 1` go by turns on one connection of each kind, so that all have the same machine; pgbench runs by
turns too, and its figure is the median of the rounds. Everything is on one machine and over TCP.
"""

import asyncio
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import click
import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console
from rich.table import Table

from duress.faults.postgres import Server, find_binaries
from duress.faults.proxy import open_proxy
from duress.faults.toxiproxy import NoToxiproxy, open_toxiproxy

OUTPUT = Path(".duress/bench-proxy.json")
MODES = {"select, prepared": ("-S", "-M", "prepared"), "tpcb-like, extended": ("-M", "extended")}
LIMIT_MS = 0.3  # what our own may add to a round trip


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of connection did. Times are milliseconds."""

    p50: float
    p95: float
    added_p50: float  # beside a direct connection
    added_p95: float
    tps: dict[str, float]  # pgbench's, by mode
    ratio: dict[str, float]  # to a direct connection's


@contextlib.asynccontextmanager
async def ways(server: Server) -> AsyncIterator[dict[str, str]]:
    """The DSN of each kind of connection."""
    dsn = server.dsn(tcp=True)
    found = {"direct": dsn}
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(open_proxy())
        found["proxy"] = await proxy.listen(0, dsn)
        try:
            toxiproxy = await stack.enter_async_context(open_toxiproxy())
            found["toxiproxy"] = await toxiproxy.listen(0, dsn)
        except NoToxiproxy as error:
            click.echo(f"without Toxiproxy: {error}", err=True)
        yield found


def round_trips(dsns: Mapping[str, str], count: int) -> dict[str, list[float]]:
    """Milliseconds of `count` round trips of each, by turns."""
    with contextlib.ExitStack() as stack:
        connections = {name: stack.enter_context(psycopg.connect(dsn, autocommit=True)) for name, dsn in dsns.items()}
        took: dict[str, list[float]] = {name: [] for name in connections}
        for turn in range(count + 200):
            for name, connection in connections.items():
                began = time.perf_counter()
                connection.execute("select 1")
                if turn >= 200:
                    took[name].append((time.perf_counter() - began) * 1000)
    return took


def pgbench_of() -> Path | None:
    """pgbench beside the server in use, a system's, or on PATH."""
    beside = find_binaries().folder / "pgbench"
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    on_path = shutil.which("pgbench")
    return next((path for path in (beside, *installed, *([Path(on_path)] if on_path else [])) if path.is_file()), None)


def throughput(program: Path, dsns: Mapping[str, str], seconds: int, rounds: int) -> dict[str, dict[str, float]]:
    """Way → mode → transactions per second."""
    pgbench(program, dsns["direct"], "-i", "-q", "-s", "5")
    seen: dict[str, dict[str, list[float]]] = {name: {mode: [] for mode in MODES} for name in dsns}
    for _ in range(rounds):
        for mode, words in MODES.items():
            for name, dsn in dsns.items():
                said = pgbench(program, dsn, *words, "-c", "4", "-T", str(seconds))
                seen[name][mode].append(float(re.search(r"tps = ([0-9.]+)", said)[1]))  # type: ignore[index]
    return {name: {mode: statistics.median(all_) for mode, all_ in by.items()} for name, by in seen.items()}


def pgbench(program: Path, dsn: str, *words: str) -> str:
    """Run it to its end and return what it said."""
    parts = conninfo_to_dict(dsn)
    where = ["-h", str(parts["host"]), "-p", str(parts["port"]), "-U", str(parts["user"]), str(parts["dbname"])]
    environment = {**os.environ, "PGPASSWORD": str(parts["password"])}
    return subprocess.run([program, *words, *where], env=environment, check=True, capture_output=True, text=True).stdout


async def measure(count: int, seconds: int, rounds: int) -> dict[str, Way]:
    """All ways, on one server."""
    program = pgbench_of()
    with Server.start() as server:
        async with ways(server) as dsns:
            took = await asyncio.to_thread(round_trips, dsns, count)
            tps: dict[str, dict[str, float]] = {name: {} for name in dsns}
            if program is None:
                click.echo("pgbench is not installed: no throughput", err=True)
            else:
                tps = await asyncio.to_thread(throughput, program, dsns, seconds, rounds)
    p50 = {name: statistics.median(times) for name, times in took.items()}
    p95 = {name: statistics.quantiles(times, n=20)[18] for name, times in took.items()}
    return {
        name: Way(
            p50=p50[name],
            p95=p95[name],
            added_p50=p50[name] - p50["direct"],
            added_p95=p95[name] - p95["direct"],
            tps=tps[name],
            ratio={mode: value / tps["direct"][mode] for mode, value in tps[name].items()},
        )
        for name in took
    }


def show(found: Mapping[str, Way]) -> None:
    table = Table("", "round trip p50", "p95", "added p50", "added p95", *MODES)
    for name, way in found.items():
        rates = [f"{way.tps[mode]:,.0f}/s ({way.ratio[mode]:.0%})" if mode in way.tps else "–" for mode in MODES]
        times = [f"{value:.3f} ms" for value in (way.p50, way.p95, way.added_p50, way.added_p95)]
        table.add_row(name, *times, *rates)
    Console(width=130).print(table)
    added = found["proxy"].added_p50
    click.echo(
        f"the proxy adds {added:.3f} ms to a round trip; at most {LIMIT_MS} ms: {'yes' if added <= LIMIT_MS else 'NO'}"
    )


@click.command()
@click.option(
    "--count", type=click.IntRange(min=100), default=5000, show_default=True, help="Round trips of each kind."
)
@click.option("--seconds", type=click.IntRange(min=1), default=3, show_default=True, help="Of each run of pgbench.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Of pgbench.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=OUTPUT, show_default=True)
def main(count: int, seconds: int, rounds: int, out: Path) -> None:
    """Measure, print, and save as JSON."""
    found = asyncio.run(measure(count, seconds, rounds))
    show(found)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


if __name__ == "__main__":
    main()
