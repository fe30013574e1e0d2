"""`duress run --world sim --cluster`: a Dask cluster finds what one machine finds, also when it loses a worker."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import duress, environment, start

from duress.scenarios.sim.cluster import ClusterUnusable, open_cluster

# More for a night: DURESS_CLUSTER_SEEDS=1000 DURESS_CLUSTER_SCENARIO=payments, with all the faults of that scenario.
SEEDS = int(os.environ.get("DURESS_CLUSTER_SEEDS", "40"))
SCENARIO = os.environ.get("DURESS_CLUSTER_SCENARIO", "")
PATIENCE = 60.0  # seconds for something that must happen; far more than it takes

TINY = """
from duress import step, workflow
from duress.scenarios import Scenario

@step
async def one() -> int:
    return 1

@workflow
async def tiny() -> int:
    return await one()

async def setup(connection):
    pass

async def workload(world):
    number = 0
    while world.going(number, wanted=3):
        await (await world.engine.start(f"w{number}", tiny)).result()
        number += 1

scenario = Scenario(
    name="tiny", doc="one step", module=__name__, setup=setup, workload=workload, faults={"kill-worker": 1},
    invariants=("W1", "L1"),
)
"""


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class DaskCluster:
    """A scheduler and workers, as processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self._file = folder / "scheduler.json"
        self._scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        until(self._file.exists)
        self.address: str = json.loads(self._file.read_text())["address"]

    def _start(self, *words: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "dask", *words, "--scheduler-file", str(self._file)]
        with (self.folder / f"{words[0]}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=log, stderr=log)

    def add_worker(self) -> None:
        """One process, with no nanny to start it again."""
        words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        self.workers.append(self._start("worker", *words))
        log = self.folder / "worker.log"
        until(lambda: log.exists() and log.read_text().count("Registered to:") >= len(self.workers))

    def close(self) -> None:
        for processes in (self.workers, [self._scheduler]):
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=PATIENCE)


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[DaskCluster]:
    folder.mkdir(exist_ok=True)
    made = DaskCluster(folder)
    try:
        for _ in range(workers):
            made.add_worker()
        yield made
    finally:
        made.close()


def cells_of(process: "subprocess.Popen[bytes]") -> list[int]:
    """The simulating processes of a worker, which have its number as their argument."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"duress.scenarios.sim.cell" in words and str(process.pid).encode() in words:
                found.append(int(entry.name))
    return found


def runs_of(folder: Path) -> bytes:
    """What was found, in the order of seeds, without how long each run took by the wall's clock."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
    for run in result["runs"]:
        del run["seconds"]
    return json.dumps(result["runs"]).encode()


def test_a_cluster_that_loses_a_worker_finds_the_same_as_one_machine(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TINY)
    small = ("mine:scenario", "--faults", "none", "--workers", "2")
    asked = ("run", *((SCENARIO,) if SCENARIO else small), "--world", "sim", "--seeds", str(SEEDS), "--out")
    alone = start(tmp_path, *asked, "alone")
    alone.communicate(timeout=300 + SEEDS)
    with cluster(tmp_path, workers=2) as dask:
        campaign = start(tmp_path, *asked, "together", "--cluster", dask.address)
        stream = tmp_path / "together" / "runs.jsonl"
        until(lambda: stream.exists() and stream.read_bytes().count(b"\n") > SEEDS // 3)
        victim = dask.workers[0]
        assert cells_of(victim) and cells_of(dask.workers[1]), "both take part"
        victim.send_signal(signal.SIGKILL)
        done = stream.read_bytes().count(b"\n") - 1
        out, err = campaign.communicate(timeout=300 + SEEDS)
        assert done < SEEDS, "it was killed while there was work"
        assert campaign.returncode == alone.returncode, out + err
        until(lambda: not cells_of(victim))
    until(lambda: not cells_of(dask.workers[1]))
    assert runs_of(tmp_path / "together") == runs_of(tmp_path / "alone")
    together, one = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("together", "alone"))
    assert len(together["runs"]) == SEEDS
    differing = {name for name in one if one[name] != together[name]}
    assert differing <= {"runs", "started_at", "seconds", "settings", "command"}  # settings: the number of jobs
    plans = [sorted(file.name for file in (tmp_path / name).glob("*.plan.json")) for name in ("together", "alone")]
    assert plans[0] == plans[1] and len(plans[0]) == SEEDS


def test_a_cluster_that_cannot_be_used_is_refused_in_words(tmp_path: Path) -> None:
    asked = ("run", "payments", "--world", "sim", "--seeds", "1", "--cluster")
    said = duress(tmp_path, *asked, "tcp://127.0.0.1:1")
    assert said.code == 2 and "no Dask scheduler answers at tcp://127.0.0.1:1" in said.err
    said = duress(tmp_path, "run", "payments", "--seeds", "1", "--cluster", "tcp://127.0.0.1:1")
    assert said.code == 2 and "--cluster is for --world sim" in said.err
    with cluster(tmp_path / "dask", workers=0) as dask:
        said = duress(tmp_path, *asked, dask.address)
        assert said.code == 2 and f"has no workers; start some: dask worker {dask.address}" in said.err


def test_workers_must_have_the_scenario_and_the_same_code(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "mine.py").write_text(TINY)
    asked = ("run", "mine:scenario", "--world", "sim", "--seeds", "2", "--faults", "none", "--cluster")
    with cluster(there, workers=1) as dask:
        said = duress(here, *asked, dask.address)
        assert said.code == 2 and "there is no module 'mine'" in said.err and "installed where each worker" in said.err
    (there / "mine.py").write_text(TINY.replace("return 1", "return 2"))
    with cluster(there, workers=1) as dask:
        said = duress(here, *asked, dask.address)
        assert said.code == 2 and re.search("worker tcp.* has build .*, and here is build ", said.err)
        (there / "mine.py").write_text(TINY)
        assert duress(here, *asked, dask.address).code == 0, "the module is read, not what was imported of it"


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    async def go() -> None:
        async with open_cluster("tcp://127.0.0.1:1", "payments"):
            pass

    with pytest.raises(ClusterUnusable, match=r"pip install 'duress\[cluster\]'"):
        asyncio.run(go())
