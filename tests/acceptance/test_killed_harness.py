"""Promise: a harness that is killed while a fault is in effect leaves a machine that `duress doctor --heal` restores: of it
no process, rule of the kernel, mount, container or folder is there any more, and a second run starts clean.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import duress, environment
from machine import needs, why_no_docker, why_no_toxiproxy

from benchmarks.killed import processes_of
from duress.faults import containers
from duress.faults.needs import find_program, lacking, no_dropping
from duress.scenarios.docker.image import DEFAULT

LIMIT_S = 60.0  # for the fault to be in effect
GONE_S = 5.0  # for what ends by itself
LONG = 50.0  # seconds that the fault would last
IMAGE = os.environ.get("DURESS_IMAGE", DEFAULT)


def command_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def state_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def a_process_is_stopped(folder: Path) -> bool:
    return any(state_of(pid) == "T" for pid in processes_of(folder / "servers"))


def a_process_is_called(name: bytes) -> Callable[[Path], bool]:
    return lambda folder: any(name in command_of(pid).split(b"\0")[0] for pid in processes_of(folder / "servers"))


def two_servers_run(folder: Path) -> bool:
    return len(list((folder / "servers").rglob("postmaster.pid"))) >= 2


def a_clock_is_off(folder: Path) -> bool:
    return any(float(file.read_text() or 0) for file in (folder / "tmp").rglob("clock-?"))


def packets_are_dropped(folder: Path) -> bool:
    return "duress_" in tables()


def tables() -> str:
    """The kernel's; none for who may not even look, and so has made none."""
    nft = find_program("nft")
    if nft is None or os.geteuid() != 0:
        return ""
    return subprocess.run([nft, "list", "tables"], capture_output=True, text=True, check=True).stdout


def mounts(folder: Path) -> list[str]:
    return [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder).replace(" ", "\\040") in line]


def contained() -> list[str]:
    client = containers.connect()
    with contextlib.closing(client):
        found = client.containers.list(all=True, filters={"label": containers.LABEL}, ignore_removed=True)
        return [f"{one.name} {one.status}" for one in found]


@dataclass(frozen=True)
class Case:
    fault: dict[str, Any]
    in_effect: Callable[[Path], bool]
    words: tuple[str, ...] = ()
    lack: str = ""

    @property
    def name(self) -> str:
        return " ".join((str(self.fault["kind"]), *self.words[1::2]))


CASES = [
    Case({"kind": "pause-worker", "duration": LONG}, a_process_is_stopped),
    Case({"kind": "pause-postgres", "duration": LONG}, a_process_is_stopped),
    Case({"kind": "partition", "duration": LONG, "packets": "dropped"}, packets_are_dropped, lack=no_dropping()),
    Case(
        {"kind": "disk-full", "duration": LONG},
        lambda folder: bool(mounts(folder)) and bool(list((folder / "servers").rglob("postmaster.pid"))),
        lack=lacking("disk-full"),
    ),
    Case({"kind": "pooler", "duration": LONG}, a_process_is_called(b"pgbouncer"), lack=lacking("pooler")),
    Case({"kind": "clock-skew", "duration": LONG, "seconds": 30.0}, a_clock_is_off, lack=lacking("clock-skew")),
    Case({"kind": "failover", "mode": "async"}, two_servers_run, lack=lacking("failover")),
]


def cases() -> Iterator[Any]:
    for case in CASES:
        yield pytest.param(case, marks=pytest.mark.skipif(bool(case.lack), reason=case.lack), id=case.name)
    toxic = {"kind": "partition", "duration": LONG}
    listening = a_process_is_called(b"server")
    yield pytest.param(
        Case(toxic, listening, ("--network", "toxiproxy")),
        marks=needs("toxiproxy", why_no_toxiproxy()),
        id="partition toxiproxy",
    )
    yield pytest.param(
        Case(
            {"kind": "pause-worker", "duration": LONG},
            lambda _: any("paused" in one for one in contained()),
            ("--world", "docker"),
        ),
        marks=needs("docker", why_no_docker(IMAGE)),
        id="pause-worker docker",
    )


def where(folder: Path) -> dict[str, str]:
    """Folders of its own for whatever it makes."""
    for name, mode in (("servers", 0o777), ("tmp", 0o1777)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    kept = {name: os.environ[name] for name in ("DURESS_TOXIPROXY", "DURESS_IMAGE") if name in os.environ}
    return {"DURESS_POSTGRES_DIRECTORY": str(folder / "servers"), "TMPDIR": str(folder / "tmp"), **kept}


def await_(true: Callable[[], bool], within: float) -> bool:
    deadline = time.monotonic() + within
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def left(folder: Path) -> list[Path]:
    """What servers and their keepers leave; they go after their processes."""
    return [*(folder / "servers").iterdir(), *(folder / "tmp").iterdir()]


@pytest.mark.parametrize("case", list(cases()))
def test_a_killed_harness_leaves_nothing_that_the_doctor_does_not_heal(case: Case, open_folder: Path) -> None:
    folder, places = open_folder, where(open_folder)
    event = {"trigger": {"at": "time", "seconds": 0.3}, "fault": case.fault}
    (folder / "plan.json").write_text(json.dumps({"version": 1, "events": [event]}))
    words = ("run", "payments", "--seed", "1", "--plan", "plan.json", "--workers", "2", "--max-time", "60", *case.words)
    with subprocess.Popen(
        [sys.executable, "-m", "duress", *words],
        cwd=folder,
        env=environment(**places),
        stdout=subprocess.DEVNULL,
        stderr=(folder / "said").open("wb"),
        start_new_session=True,
    ) as harness:
        try:
            seen = await_(lambda: case.in_effect(folder) or harness.poll() is not None, LIMIT_S)
            assert seen and harness.poll() is None, (folder / "said").read_text()
        finally:
            harness.send_signal(signal.SIGKILL)
    healed = duress(folder, "doctor", "--heal", **places)
    assert healed.code == 0, healed.err
    assert await_(lambda: processes_of(folder / "servers") == [], GONE_S), processes_of(folder / "servers")
    assert mounts(folder) == [] and "duress_" not in tables()
    assert await_(lambda: left(folder) == [], GONE_S), left(folder)
    assert list((folder / ".duress").rglob("journal/*")) == []
    if "docker" in case.words:
        assert contained() == []
    again = duress(folder, "run", "payments", "--seed", "2", "--faults", "none", "--workers", "2", **places)
    assert again.code == 0, again.err + again.out
    assert await_(lambda: left(folder) == [], GONE_S), left(folder)
