"""Runs `duress` in a subprocess, as a user does: in a folder of its own, with nothing of ours in the environment."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 120.0  # seconds for one command
ROOT = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """The environment without DURESS_…, real processes being the usual world, and failing runs left as they are: to make them
    smaller takes its time. `duress` is found even if not installed.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DURESS_")}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    usual = {"COLUMNS": "200", "DURESS_WORLD": "procs", "DURESS_SHRINK": "0"}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **usual, **more}


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def duress(folder: Path, *arguments: str, **more: str) -> Said:
    """Run `duress` with these arguments in a folder; further keywords are environment variables."""
    done = subprocess.run(
        [sys.executable, "-m", "duress", *arguments],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The same, without waiting for its end."""
    return subprocess.Popen(
        [sys.executable, "-m", "duress", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
