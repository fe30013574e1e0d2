"""Real campaigns, run once and read by many tests: whatever reads a result is tested on what runs really leave."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import duress

# name → the words after `duress run payments`. Small, and each there for what its name says.
CAMPAIGNS = {
    "green-1": ("--world", "sim", "--seeds", "12", "--shard", "1/2", "--faults", "kill-worker"),
    "green-2": ("--world", "sim", "--seeds", "12", "--shard", "2/2", "--faults", "kill-worker"),
    "red": ("--world", "sim", "--seeds", "4", "--canary", "key-of-the-epoch"),
    "procs": ("--world", "procs", "--seeds", "2", "--workers", "2", "--faults", "kill-worker,pause-worker"),
}
CODES = {"red": 1}

Campaigns = Callable[[str], Path]


@pytest.fixture(scope="session")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> Campaigns:
    """The folder of a campaign by its name; run by the first who asks, in whichever process of the tests."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "campaigns"
    root.mkdir(exist_ok=True)

    def folder(name: str) -> Path:
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / name / "result.json").exists():
                said = duress(root, "run", "payments", *CAMPAIGNS[name], "--out", name)
                assert said.code == CODES.get(name, 0), said.err + said.out
        return root / name

    return folder
