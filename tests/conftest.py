"""What all tests share: one PostgreSQL for the session (one per pytest-xdist worker), a fresh database per test."""

import itertools
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from duress.faults.postgres import Server

_numbers = itertools.count(1)

# Whoever runs us in the background may have had it ignored, and what we start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A private PostgreSQL; a test that stops or crashes it starts its own instead."""
    with Server.start() as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The DSN of an empty database that is dropped, with its sessions, after the test."""
    name = f"test_{next(_numbers)}"
    server.create_database(name)
    yield server.dsn(name)
    server.drop_database(name)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, which `tmp_path` is not when we are root."""
    with tempfile.TemporaryDirectory(prefix="open ") as name:
        os.chmod(name, 0o755)
        yield Path(name)
