"""While a campaign runs: figures that are right, a failure at once, lines where nothing can move, and quiet when asked."""

import io

import msgspec
import pytest
from rich.console import Console
from synthetic_campaign import campaign

from duress.cli.live import EVERY, Progress

RUNS = campaign(runs=12, red=True).runs
KINDS = ("kill-worker", "pause-worker", "failover")


class Clock:
    """Two seconds for each run."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def told(*, terminal: bool, quiet: bool = False, runs: int = 12, width: int = 200) -> tuple[str, str]:
    """What is on the screen in the end, and what had been printed."""
    clock, output = Clock(), io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=width, color_system=None)
    progress = Progress("payments", 12, KINDS, quiet=quiet, console=console, clock=clock)
    with progress:
        for run in RUNS[:runs]:
            progress.began(run.seed)
            clock.now += 2.0
            progress.ended(run)
        if runs < 12:
            progress.began(99)
        screen = io.StringIO()
        Console(file=screen, width=width, color_system=None).print(progress.view())
    return screen.getvalue(), output.getvalue()


def test_the_view_counts_runs_faults_and_kinds_and_says_how_long_it_takes() -> None:
    screen, _ = told(terminal=True, runs=6)
    fired = sum(fault.kind == "kill-worker" for run in RUNS[:6] for fault in run.faults)
    assert "6 of 12 runs, 0.5 seeds/s, 2 fail" in screen and "12 s left" in screen
    assert "✓ 4 pass" in screen and "✗ 2 fail" in screen and "running: seed 99" in screen
    assert f"kill-worker {fired}" in screen
    assert screen.rstrip().endswith("kinds fired, not yet: failover")


def test_a_run_that_failed_is_told_at_once_with_its_reason() -> None:
    for terminal in (True, False):
        _, printed = told(terminal=terminal, runs=3)
        assert "✗ seed 2: fail: The body of step" in printed


def test_where_nothing_can_move_there_is_a_line_now_and_then_and_one_at_the_end() -> None:
    _, printed = told(terminal=False)
    lines = [line for line in printed.splitlines() if line.startswith("payments: ")]
    assert len(lines) == 24 // int(EVERY) + 1
    assert lines[-1].startswith("payments: 12 of 12 runs, 0.5 seeds/s, 4 fail, 24 s")
    assert "\x1b" not in printed


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_is_quiet(terminal: bool) -> None:
    assert told(terminal=terminal, quiet=True)[1] == ""


def test_a_fault_that_did_not_fire_is_seen_missing() -> None:
    base = next(run for run in RUNS if run.faults)
    missed = msgspec.structs.replace(base.faults[0], kind="failover", effect=None)
    progress = Progress("p", 3, KINDS, quiet=True)
    progress.ended(msgspec.structs.replace(base, faults=(missed, msgspec.structs.replace(missed, effect=1.0))))
    screen = io.StringIO()
    Console(file=screen, width=200).print(progress.view())
    assert "failover 1 of 2" in screen.getvalue()
    assert "1 of 3 kinds fired, not yet: kill-worker, pause-worker" in screen.getvalue()
