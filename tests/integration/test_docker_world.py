"""The world of containers: each fault is told by the daemon's own events, the promises hold, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import needs, why_no_docker

from duress.faults import containers
from duress.faults.undo import identify
from duress.scenarios.docker.image import DEFAULT

ROOT = Path(__file__).resolve().parents[2]
IMAGE = os.environ.get("DURESS_IMAGE", DEFAULT)
pytestmark = needs("docker", why_no_docker(IMAGE))
LIMIT = 300.0

FAULTS: list[dict[str, Any]] = [
    {
        "trigger": {"at": "point", "point": "step.checkpointing", "occurrence": 2},
        "worker": 0,
        "fault": {"kind": "kill-worker"},
    },
    {"trigger": {"at": "time", "seconds": 0.5}, "worker": 1, "fault": {"kind": "pause-worker", "duration": 1.5}},
    {"trigger": {"at": "time", "seconds": 0.8}, "worker": 2, "fault": {"kind": "partition", "duration": 1.2}},
    {"trigger": {"at": "time", "seconds": 3.0}, "worker": 1, "fault": {"kind": "terminate-backend"}},
    {"trigger": {"at": "time", "seconds": 4.0}, "worker": 2, "fault": {"kind": "stop-worker"}},
    {"trigger": {"at": "time", "seconds": 5.0}, "fault": {"kind": "pause-postgres", "duration": 0.6}},
    {"trigger": {"at": "time", "seconds": 7.0}, "fault": {"kind": "crash-backend"}},
    {"trigger": {"at": "time", "seconds": 9.0}, "fault": {"kind": "restart-postgres", "mode": "fast", "down": 0.3}},
    {"trigger": {"at": "time", "seconds": 12.0}, "fault": {"kind": "kill-postmaster"}},
]


@pytest.fixture
def client() -> Iterator[Any]:
    client = containers.connect()
    yield client
    client.close()


def start(folder: Path, plan: list[dict[str, Any]], *arguments: str) -> "subprocess.Popen[str]":
    (folder / "plan.json").write_text(json.dumps({"version": 1, "events": plan}))
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("DURESS_") or name == "DURESS_IMAGE"
    }
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "duress",
            "run",
            "payments",
            "--world",
            "docker",
            "--seed",
            "1",
            "--plan",
            "plan.json",
            *arguments,
        ],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ours(client: Any, value: str) -> list[str]:
    """What bears the mark of a harness."""
    filters = {"label": f"{containers.LABEL}={value}"}
    found = [one.name for one in client.containers.list(all=True, filters=filters, ignore_removed=True)]
    return found + [one.name for one in client.networks.list(filters=filters)]


def test_every_fault_of_containers_is_told_by_the_daemon_and_survived(client: Any, tmp_path: Path) -> None:
    since = time.time()
    harness = start(tmp_path, FAULTS, "--max-time", "60", "--json")
    mark = containers.mark(harness.pid)
    out, err = harness.communicate(timeout=LIMIT)
    assert harness.returncode == 0, err
    document = json.loads(out)
    assert document["verdict"] == "pass"
    assert {kind: counts["fired"] for kind, counts in document["faults"].items()} == {
        event["fault"]["kind"]: 1 for event in FAULTS
    }
    told = list(client.events(since=int(since), until=int(time.time()) + 1, decode=True))
    mine = [event for event in told if event["Actor"]["Attributes"].get(containers.LABEL) == mark]
    actions = [event["Action"].partition(":")[0] for event in mine]
    assert actions.count("pause") == actions.count("unpause") == 2, "a worker and PostgreSQL"
    codes = [event["Actor"]["Attributes"]["exitCode"] for event in mine if event["Action"] == "die"]
    assert codes.count("137") >= 2, "SIGKILL to a worker, and to PostgreSQL"
    networks = [event["Action"] for event in told if event["Type"] == "network"]
    assert networks.count("disconnect") > networks.count("destroy") >= 1
    assert ours(client, mark) == []


def test_without_faults_the_daemon_tells_of_none(client: Any, tmp_path: Path) -> None:
    since = time.time()
    harness = start(tmp_path, [], "--set", "transfers=10", "--json")
    mark = containers.mark(harness.pid)
    _, err = harness.communicate(timeout=LIMIT)
    assert harness.returncode == 0, err
    told = client.events(since=int(since), until=int(time.time()) + 1, decode=True)
    mine = [event["Action"] for event in told if event["Actor"]["Attributes"].get(containers.LABEL) == mark]
    assert "start" in mine and "pause" not in mine
    assert ours(client, mark) == []


def test_a_killed_harness_leaves_containers_that_the_doctor_removes(client: Any, tmp_path: Path) -> None:
    harness = start(tmp_path, FAULTS[1:2])
    mark = containers.mark(harness.pid)
    deadline = time.monotonic() + LIMIT
    while not any("-worker-" in name for name in ours(client, mark)):
        assert time.monotonic() < deadline and harness.poll() is None
        time.sleep(0.05)
    harness.send_signal(signal.SIGKILL)
    harness.communicate()
    left = ours(client, mark)
    assert len(left) >= 3, "PostgreSQL, a worker, the network"
    assert identify(harness.pid) is None
    healed = subprocess.run(
        [sys.executable, "-m", "duress", "doctor", "--heal"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    for name in left:
        assert name in healed.stdout
    assert ours(client, mark) == []


def test_an_interrupted_run_leaves_nothing(client: Any, tmp_path: Path) -> None:
    harness = start(tmp_path, FAULTS[1:2])
    mark = containers.mark(harness.pid)
    deadline = time.monotonic() + LIMIT
    while not any("-worker-" in name for name in ours(client, mark)):
        assert time.monotonic() < deadline and harness.poll() is None
        time.sleep(0.05)
    harness.send_signal(signal.SIGTERM)
    harness.communicate(timeout=LIMIT)
    assert ours(client, mark) == []


def test_an_image_that_is_not_there_is_refused_with_how_to_make_one(client: Any, tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "duress", "run", "payments", "--world", "docker", "--seed", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DURESS_IMAGE": "duress-no-such-image:none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2
    assert "there is no image 'duress-no-such-image:none'" in said.stderr and "docker build" in said.stderr
