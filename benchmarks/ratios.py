"""From figures to the ratios that are compared with the targets, and the reasons why a run may be void."""

import msgspec

from benchmarks.peers_part import void_reasons
from benchmarks.result import Bench, Engines, Mode


def with_ratios(bench: Bench) -> Bench:
    """The same run with its top-level keys filled, from the server without fsync, and with what makes it void."""
    void = [
        reason
        for mode in (bench.fsync_off, bench.fsync_on)
        if mode is not None and mode.engines is not None
        for reason in void_reasons(mode.engines, f"fsync {'on' if mode.fsync else 'off'}")
    ]
    bench = msgspec.structs.replace(bench, void=void)
    return bench if bench.fsync_off is None else msgspec.structs.replace(bench, **keys(bench.fsync_off))


def keys(mode: Mode) -> dict[str, float | None]:
    """The top-level keys as this server has them; those of a part that was not run are missing."""
    found: dict[str, float | None] = {}
    if mode.engines is not None:
        found |= _engine_keys(mode.engines)
    if mode.kills is not None:
        found |= {"kill_to_first_ms_p50": mode.kills.p50_ms, "kill_to_first_ms_p95": mode.kills.p95_ms}
    for claims in mode.claims:
        suffix = "_snapshot" if claims.snapshot_held else ""
        found[f"claim_slowdown_100k{suffix}"] = claims.claims[0].slowdown
    return found


def _engine_keys(engines: Engines) -> dict[str, float | None]:
    rates = {name: throughput.steps_per_s for name, throughput in engines.throughput.items()}
    ours = engines.sequential["duress"]
    return {
        "steps_per_s": rates["duress"],
        "steps_vs_dbos": rates["duress"] / rates["dbos"],
        "steps_vs_absurd": rates["duress"] / rates["absurd"],
        "steps_vs_pgbench": rates["duress"] / engines.limit.inserts_per_s,
        "sequential_vs_insert": ours.step.median_ms / ours.insert.median_ms if ours.insert else None,
    }
