"""Finding and starting a Toxiproxy server, which ends with us however we end."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Final

from duress.faults.network import NetworkUnavailable
from duress.faults.postgres.guard import Guard
from duress.faults.postgres.place import choose_base

VARIABLE: Final = "DURESS_TOXIPROXY"
HOW_TO_GET: Final = (
    "`go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0` makes it as ~/go/bin/server; or put toxiproxy-server on"
    f" PATH, or name it, or a running one's HOST:PORT, in {VARIABLE}"
)
STARTING_BOUND: Final = 10.0  # seconds
TRIES: Final = 5  # at a port that nobody else takes meanwhile


class NoToxiproxy(NetworkUnavailable):
    """There is no Toxiproxy server, or it does not run; the message says what would help."""


@dataclass(frozen=True, slots=True)
class Found:
    """A program to start, or the address of a server that runs."""

    program: Path | None = None
    address: tuple[str, int] | None = None


def find_toxiproxy() -> Found:
    """The server that DURESS_TOXIPROXY names, else toxiproxy-server on PATH, else what `go install` has made."""
    named = os.environ.get(VARIABLE, "")
    if named:
        host, colon, port = named.rpartition(":")
        if colon and port.isdecimal() and "/" not in named:
            return Found(address=(host, int(port)))
        if (program := shutil.which(named)) is None:
            raise NoToxiproxy(f"{VARIABLE} is {named!r}, which is neither a program nor HOST:PORT; {HOW_TO_GET}")
        return Found(program=Path(program))
    if (program := shutil.which("toxiproxy-server")) is not None:
        return Found(program=Path(program))
    for made in _made_by_go():
        if made.is_file() and _is_toxiproxy(made):
            return Found(program=made)
    raise NoToxiproxy(f"no toxiproxy-server was found; {HOW_TO_GET}")


def _made_by_go() -> list[Path]:
    """Where `go install` puts programs (its own rules); the name of this one is `server`."""
    if named := os.environ.get("GOBIN"):
        return [Path(named) / "server"]
    paths = os.environ.get("GOPATH") or str(Path.home() / "go")
    return [Path(path) / "bin" / "server" for path in paths.split(os.pathsep)]


def _is_toxiproxy(program: Path) -> bool:
    """Many programs are called `server`."""
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.stdout.startswith("toxiproxy")


@contextlib.asynccontextmanager
async def running(found: Found) -> AsyncIterator[tuple[str, int]]:
    """The address of a server's API; a program is started for it and ended with the block. Raises NoToxiproxy."""
    if found.address is not None:
        await _answers(*found.address, STARTING_BOUND)
        yield found.address
        return
    guard = await asyncio.to_thread(Guard)
    try:
        yield await _start(guard, str(found.program))
    finally:
        await asyncio.to_thread(guard.close)


async def _start(guard: Guard, program: str) -> tuple[str, int]:
    folder = guard.make_folder(choose_base(0, None, memory=False))
    log = folder / "toxiproxy.log"
    for _ in range(TRIES):
        with socket.socket() as finder:
            finder.bind(("127.0.0.1", 0))
            port = finder.getsockname()[1]
        argv = [program, "-host", "127.0.0.1", "-port", str(port)]
        pid = guard.start(argv, log=log, account=None, environment={}, end_signal=SIGKILL)
        with contextlib.suppress(NoToxiproxy):
            await _answers("127.0.0.1", port, STARTING_BOUND, partial(_ended, guard, pid))
            return "127.0.0.1", port
    raise NoToxiproxy(f"{program} does not start; it said: {log.read_text()[-500:]}")


def _ended(guard: Guard, pid: int) -> bool:
    return guard.wait(pid, 0.0) is not None


async def _answers(host: str, port: int, within: float, ended: Callable[[], bool] = lambda: False) -> None:
    """Return when somebody listens there. Raises NoToxiproxy."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            if ended() or asyncio.get_running_loop().time() > deadline:
                raise NoToxiproxy(f"no Toxiproxy server answers at {host}:{port} ({error}); {HOW_TO_GET}") from None
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
