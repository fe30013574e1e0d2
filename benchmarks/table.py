"""The printed tables: each figure beside its target, with fsync off and on."""

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.ratios import keys
from benchmarks.result import Bench, Kills, Mode


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, what it must reach, and how it is written."""

    key: str
    label: str
    wanted: str
    met: Callable[[float], bool] | None
    form: str


TARGETS = (
    Target("steps_per_s", "steps/s, 64 workflows at once", "", None, "{:,.0f}"),
    Target("steps_vs_dbos", "× DBOS Transact", "≥ 25", lambda value: value >= 25, "{:.1f}"),
    Target("steps_vs_absurd", "× Absurd", "≥ 8", lambda value: value >= 8, "{:.1f}"),
    Target("steps_vs_pgbench", "of pgbench's single INSERTs", "≥ 0.2", lambda value: value >= 0.2, "{:.3f}"),
    Target("sequential_vs_insert", "sequential step / prepared INSERT", "≤ 1.7", lambda value: value <= 1.7, "{:.2f}"),
    Target("kill_to_first_ms_p50", "SIGKILL → first checkpoint, p50, ms", "≤ 25", lambda value: value <= 25, "{:.1f}"),
    Target("kill_to_first_ms_p95", "SIGKILL → first checkpoint, p95, ms", "", None, "{:.1f}"),
    Target("claim_slowdown_100k", "claim after the completed / fresh", "< 1.3", lambda value: value < 1.3, "{:.2f}"),
    Target("claim_slowdown_100k_snapshot", "the same, old snapshot held", "< 2", lambda value: value < 2, "{:.2f}"),
)


def show(bench: Bench, console: Console) -> None:
    """Print everything that was measured."""
    modes = [mode for mode in (bench.fsync_off, bench.fsync_on) if mode is not None]
    _show_ratios(modes, console)
    for mode in modes:
        _show_engines(mode, console)
    for mode in modes:
        if mode.kills is not None:
            _show_kills(mode, mode.kills, console)
        _show_claims(mode, console)
        _show_trips(mode, console)
    for reason in bench.void:
        console.print(f"[bold red]VOID[/bold red] {reason}")


def _name(mode: Mode) -> str:
    return f"fsync {'on' if mode.fsync else 'off'}, {mode.storage}"


def _show_ratios(modes: list[Mode], console: Console) -> None:
    table = Table("", "target", *(_name(mode) for mode in modes), title="duress beside its peers")
    for target in TARGETS:
        values = [keys(mode).get(target.key) for mode in modes]
        if any(value is not None for value in values):
            table.add_row(target.label, target.wanted, *(_judged(target, value) for value in values))
    if table.row_count:
        console.print(table)


def _judged(target: Target, value: float | None) -> str:
    if value is None:
        return "–"
    text = target.form.format(value)
    if target.met is None:
        return text
    return f"[green]{text}[/green]" if target.met(value) else f"[bold red]{text} missed[/bold red]"


def _show_engines(mode: Mode, console: Console) -> None:
    if mode.engines is None:
        return
    table = Table(title=f"engines, {_name(mode)}, PostgreSQL {mode.postgres}")
    for heading in (
        "engine",
        "steps/s",
        "of pgbench",
        "sequential step, median ms",
        "mean ms",
        "set-ups (at once / one by one)",
    ):
        table.add_column(heading, justify="left" if heading.startswith(("engine", "set")) else "right")
    limit = mode.engines.limit.inserts_per_s
    table.add_row(f"pgbench, {mode.engines.limit.clients} clients", f"{limit:,.0f}", "1", "", "", "-M prepared")
    for name, figures in mode.engines.throughput.items():
        step = mode.engines.sequential[name].step
        table.add_row(
            f"{name} {figures.version}",
            f"{figures.steps_per_s:,.0f}",
            f"{figures.steps_per_s / limit:.4f}",
            f"{step.median_ms:.3f}",
            f"{step.mean_ms:.3f}",
            f"{figures.setup} / {mode.engines.sequential[name].setup}",
        )
    ours = mode.engines.sequential["duress"]
    for label, insert in (("the same INSERT, psycopg", ours.insert), ("a checkpoint's row, psycopg", ours.row_insert)):
        if insert is not None:
            table.add_row(
                label, "", "", f"{insert.median_ms:.3f}", f"{insert.mean_ms:.3f}", "prepared, in turns with duress"
            )
    console.print(table)


def _show_kills(mode: Mode, kills: Kills, console: Console) -> None:
    interval = "n too small" if kills.p50_low_ms is None else f"{kills.p50_low_ms:.1f} to {kills.p50_high_ms:.1f}"
    bound = "n too small" if kills.p95_bound_ms is None else f"at most {kills.p95_bound_ms:.1f}"
    table = Table("", "ms", "95 % interval", title=f"SIGKILL → first new checkpoint, {_name(mode)}, n = {kills.n}")
    table.add_row("p50", f"{kills.p50_ms:.1f}", interval)
    table.add_row("p95", f"{kills.p95_ms:.1f}", bound)
    table.add_row("longest", f"{kills.longest_ms:.1f}", "")
    doubles = sum(len(kill.victims) > 1 for kill in kills.kills)
    for label, value in (
        (f"p50, one worker (n = {kills.n - doubles})", kills.p50_single_ms),
        (f"p50, two neighbours, the later (n = {doubles})", kills.p50_double_ms),
        ("p50, of two the earlier", kills.p50_of_any_ms),
        ("p50, until declared dead", kills.p50_noticed_ms),
    ):
        table.add_row(label, "–" if value is None else f"{value:.1f}", "")
    console.print(table)


def _show_claims(mode: Mode, console: Console) -> None:
    if not mode.claims:
        return
    table = Table("claim", "snapshot held", "fresh, ms", "after, ms", "×", title=f"claiming, {_name(mode)}")
    for claims in mode.claims:
        for claim in claims.claims:
            table.add_row(
                f"{claim.call}, {claim.statistic}",
                "yes" if claims.snapshot_held else "no",
                f"{claim.fresh_ms:.3f}",
                f"{claim.after_ms:.3f}",
                f"{claim.slowdown:.2f}",
            )
    table.caption = f"{mode.claims[0].pending:,} pending, after {mode.claims[0].completed:,} completed"
    console.print(table)


def _show_trips(mode: Mode, console: Console) -> None:
    trips = mode.trips
    if trips is None:
        return
    table = Table("statements counted by the server", "alone", "target", "64 at once", title="round trips")
    table.add_row("start", f"{trips.start:.2f}", "1", f"{trips.start_at_64:.2f}")
    table.add_row("claim, a workflow", f"{trips.claim:.2f}", "", "")
    table.add_row("step", f"{trips.step:.2f}", "1; fewer at once", f"{trips.step_at_64:.2f}")
    table.add_row("transaction step with one statement", f"{trips.transaction_step:.2f}", "3 + 1", "")
    table.add_row("complete", f"{trips.complete:.2f}", "1", f"{trips.complete_at_64:.2f}")
    table.add_row("idle worker, a second", f"{trips.idle_per_s:.2f}", "", "")
    console.print(table)
