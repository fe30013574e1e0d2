"""`duress run` on a terminal: a view that moves, Ctrl-C as people press it, and nothing of the view left behind."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from command_line import LIMIT, duress, environment

from duress.reports import load
from duress.scenarios.stream import STREAM_FILE

RUN = ("run", "payments", "--world", "sim", "--seeds", "300", "--faults", "kill-worker", "--out", "out")


def on_a_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run `duress` with a terminal as its stderr, press Ctrl-C after the first run; returns the code and what was shown."""
    ours, theirs = pty.openpty()
    harness = subprocess.Popen(
        [sys.executable, "-m", "duress", *arguments],
        cwd=folder,
        env={**environment(), "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, pressed, deadline = b"", False, time.monotonic() + LIMIT
    stream = folder / "out" / STREAM_FILE
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.05)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        if not pressed and b"1 of 300 runs" in shown and stream.read_bytes().count(b"\n") > 1:
            harness.send_signal(signal.SIGINT)
            pressed = True
    os.close(ours)
    try:
        harness.communicate(timeout=LIMIT)
    finally:
        harness.kill()
    return harness.returncode, shown.decode()


def test_a_terminal_shows_how_it_goes_and_ctrl_c_is_answered(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, *RUN)
    assert code == 130, shown
    assert "seeds/s" in shown and "kill-worker" in shown and "running: seed" in shown
    before, _, after = shown.partition("finishing what runs, then the report")
    assert after, shown
    assert before.rstrip(" ").endswith(("\r", "\n", "K", "J")), "on a line of its own, above the view"
    ups = re.findall(r"\x1b\[1A", after)
    assert ups, "the view went on below it"
    assert 1 <= len(load(tmp_path / "out").runs) < 300


def test_without_a_terminal_there_are_plain_lines_or_none(tmp_path: Path) -> None:
    command = ("run", "payments", "--world", "sim", "--seeds", "2", "--faults", "none")
    said = duress(tmp_path, *command)
    assert said.code in (0, 4), said.err
    assert said.err.startswith("payments: 2 of 2 runs, ") and "\x1b" not in said.err
    assert duress(tmp_path, *command, "--quiet").err == ""
