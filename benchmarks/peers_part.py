"""The peers part: PostgreSQL's limit, then each engine at once and step by step, then the limit again."""

from collections.abc import Callable

from benchmarks.engines import ABSURD, CONTENDERS, DBOS, Arena, Contender
from benchmarks.limit import CLIENTS, create_table, run_pgbench
from benchmarks.result import Engines, Limit, Sequential, Throughput, sequential, throughput
from duress.faults.postgres import Server

# A peer that does less was set up badly or met a busy machine; then a ratio to it says nothing.
LEAST_SHARE_OF_PGBENCH = {DBOS.name: 0.004, ABSURD.name: 0.015}

Say = Callable[[str], None]
Setups = dict[
    tuple[str, str], tuple[str, dict[str, float]]
]  # (engine, mode) → the fastest set-up, the rates of all tried


def measure_engines(server: Server, arena: Arena, seconds: float, setups: Setups, say: Say) -> Engines:
    """All engines on one server. `setups` remembers the fastest set-ups, so that a second server uses the same ones."""
    pgbench = server.binaries.program("pgbench")
    _, database = arena.fresh_database("limit")
    create_table(database)
    say(f"pgbench, {seconds:g} s")
    insertions = [run_pgbench(pgbench, database, seconds)]
    throughputs: dict[str, Throughput] = {}
    sequentials: dict[str, Sequential] = {}
    for contender in CONTENDERS:
        setup, tried = _setup(arena, contender, "concurrent", setups, seconds, say)
        say(f"{contender.name}, 64 workflows at once, {setup}, {seconds:g} s")
        throughputs[contender.name] = throughput(arena.run(contender, "concurrent", setup, seconds), tried)
        setup, _ = _setup(arena, contender, "sequential", setups, seconds, say)
        say(f"{contender.name}, one workflow at a time, {setup}, {seconds:g} s")
        sequentials[contender.name] = sequential(arena.run(contender, "sequential", setup, seconds))
    say(f"pgbench again, {seconds:g} s")
    insertions.append(run_pgbench(pgbench, database, seconds))
    rates = [insertion.per_s for insertion in insertions]
    limit = Limit(
        clients=CLIENTS,
        runs_per_s=rates,
        rows_counted=sum(insertion.rows for insertion in insertions),
        inserts_per_s=sum(rates) / len(rates),
    )
    return Engines(limit=limit, throughput=throughputs, sequential=sequentials)


def void_reasons(engines: Engines, where: str) -> list[str]:
    """Why the ratios to a peer may not be used; empty if they may."""
    return [
        f"{where}: {name} did {engines.throughput[name].steps_per_s:.0f} steps/s, {share:.2%} of pgbench's "
        f"{engines.limit.inserts_per_s:.0f}/s; below {least:.1%} the run is void (a busy machine, or a bad set-up)"
        for name, least in LEAST_SHARE_OF_PGBENCH.items()
        if (share := engines.throughput[name].steps_per_s / engines.limit.inserts_per_s) < least
    ]


def _setup(
    arena: Arena, contender: Contender, mode: str, setups: Setups, seconds: float, say: Say
) -> tuple[str, dict[str, float]]:
    offered = contender.setups if mode == "concurrent" else contender.sequential_setups
    if len(offered) == 1:
        return offered[0], {}
    if (contender.name, mode) not in setups:
        say(f"{contender.name}, {mode}: which of {', '.join(offered)} is the fastest")
        setups[contender.name, mode] = arena.fastest_setup(contender, mode, min(3.0, seconds))
    return setups[contender.name, mode]
