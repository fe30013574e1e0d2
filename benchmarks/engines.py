"""Runs the drivers, each in a process of its own on a database of its own, and checks their word against the tables.

A figure counts only if the engine's own checkpoint table afterwards holds one row for every step that the driver says
it ran.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.environment import REPOSITORY
from benchmarks.limit import create_table
from benchmarks.protocol import Answer
from duress.faults.postgres import Server

SELECTION_S = 3.0  # of each set-up, to learn which is the fastest
_DRIVER_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Contender:
    """An engine to measure: its driver, the set-ups that its documentation offers, the table that proves its work."""

    name: str
    driver: str
    setups: tuple[str, ...]
    sequential_setups: tuple[str, ...]
    checkpoints: str
    install: Callable[[str, Path, Path], None] | None = None  # (dsn, the peers' bin folder, PostgreSQL's bin folder)


def install_absurd(dsn: str, peers: Path, postgres: Path) -> None:
    """Absurd's schema and one queue, by its own installer, which brings the schema and calls psql."""
    path = os.pathsep.join((str(postgres), os.environ.get("PATH", os.defpath)))
    for arguments in (["init"], ["create-queue", "bench"]):
        command: list[str | Path] = [peers / "absurdctl", arguments[0], "-d", dsn, *arguments[1:]]
        done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"absurdctl {arguments[0]} ended with {done.returncode}: {done.stderr or done.stdout}")


DURESS = Contender("duress", "benchmarks.duress_driver", ("asyncio",), ("asyncio",), "duress.checkpoint")
DBOS = Contender(
    "dbos",
    "benchmarks.peers.dbos_driver",
    # The pool's documented default is 20; the others are the options that the configuration's reference offers.
    ("threads", "asyncio", "asyncio/pool64", "threads/noping", "queue"),
    ("threads", "asyncio", "threads/noping"),
    "dbos.operation_outputs",
)
ABSURD = Contender(
    "absurd",
    "benchmarks.peers.absurd_driver",
    ("asyncio", "asyncio/2", "asyncio/4", "threads"),
    ("asyncio", "threads"),
    "absurd.c_bench",
    install_absurd,
)
CONTENDERS = (DURESS, DBOS, ABSURD)


class Arena:
    """One server on which drivers run one after another, and the Pythons that they run with."""

    def __init__(self, server: Server, peers_python: Path) -> None:
        self._server = server
        self._peers_python = peers_python
        self._databases = 0

    def fresh_database(self, name: str) -> tuple[str, str]:
        """The name and the DSN of a new database."""
        self._databases += 1
        database = f"bench_{name}_{self._databases}"
        self._server.create_database(database)
        return database, self._server.dsn(database)

    def fastest_setup(
        self, contender: Contender, mode: str, seconds: float = SELECTION_S
    ) -> tuple[str, dict[str, float]]:
        """The set-up with the most steps per second in short trials, and all of their rates."""
        setups = contender.setups if mode == "concurrent" else contender.sequential_setups
        rates = {setup: steps_per_s(self.run(contender, mode, setup, seconds)) for setup in setups}
        return max(rates, key=lambda setup: rates[setup]), rates

    def run(self, contender: Contender, mode: str, setup: str, seconds: float) -> Answer:
        """One driver, once. Raises RuntimeError when it fails, or when its rows say otherwise than its answer."""
        database, dsn = self.fresh_database(contender.name)
        if contender is DURESS:
            python, environment = Path(sys.executable), dict(os.environ)
            create_table(dsn)
        else:
            python, environment = self._peers_python, _without_ours(os.environ)
        if contender.install is not None:
            contender.install(dsn, self._peers_python.parent, self._server.binaries.folder)
        with tempfile.TemporaryDirectory(prefix="duress-bench-") as folder:
            out = Path(folder) / "answer.json"
            arguments = {"dsn": dsn, "mode": mode, "setup": setup, "seconds": seconds, "out": out}
            command = [str(python), "-m", contender.driver, *(f"--{key}={value}" for key, value in arguments.items())]
            done = subprocess.run(
                command,
                cwd=REPOSITORY,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=_DRIVER_TIMEOUT_S,
            )
            if done.returncode != 0 or not out.exists():
                said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
                raise RuntimeError(
                    f"the driver of {contender.name} ({setup}, {mode}) ended with {done.returncode}:\n{said}"
                )
            answer = Answer(**json.loads(out.read_text()))
        _check_rows(contender, dsn, answer)
        self._server.drop_database(database)
        return answer


def steps_per_s(answer: Answer) -> float:
    """Of either mode: a sequential answer's rate is the inverse of its mean latency."""
    if answer.steps:
        return answer.steps / answer.seconds
    return 1e3 * len(answer.latencies_ms) / sum(answer.latencies_ms)


def _without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Nothing that would bring our packages into the peers' Python."""
    return {
        name: value for name, value in environment.items() if name not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    }


def _check_rows(contender: Contender, dsn: str, answer: Answer) -> None:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(f"select count(*) from {contender.checkpoints}").fetchone()
        logged = connection.execute(
            "select relpersistence = 'p' from pg_class where oid = %s::regclass", (contender.checkpoints,)
        ).fetchone()
    assert row is not None and logged is not None
    if row[0] != answer.rows_expected:
        said = f"{contender.name} ({answer.setup}) says {answer.rows_expected} steps"
        raise RuntimeError(f"{said}, but {contender.checkpoints} has {row[0]} rows")
    if not logged[0]:
        raise RuntimeError(f"{contender.checkpoints} is not a logged table: the figures would not be comparable")
