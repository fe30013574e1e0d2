"""PostgreSQL in a container: workers reach it over the network, the harness through a socket in a mounted folder."""

import asyncio
import contextlib
import os
import secrets
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo

from duress.faults.postgres import ServerError, find_binaries
from duress.faults.postgres.guard import Guard
from duress.faults.postgres.place import choose_base
from duress.faults.postgres.server import USER
from duress.faults.postgres.settings import as_configuration, default_settings, needed_bytes
from duress.scenarios.docker.daemon import Daemon
from duress.scenarios.docker.image import Code

NAME: Final = "postgres"  # under which workers find it
PORT: Final = 5432
ACCOUNT: Final = "nobody"  # PostgreSQL refuses root
INSIDE: Final = "/mnt/duress/server"
STARTING_BOUND: Final = 60.0  # seconds
POLL: Final = 0.02
STOP_SIGNALS: Final = {"fast": "SIGINT", "immediate": "SIGQUIT"}


class ContainedServer:
    """One server. Its data outlives its container's restarts, and goes with the harness, however that ends."""

    def __init__(self, daemon: Daemon, container: Any, folder: Path, password: str) -> None:
        self.container = container
        self.log_path = folder / "server.log"
        self._daemon = daemon
        self._folder = folder
        self._password = password

    @property
    def dsn(self) -> str:
        """For the harness."""
        return make_conninfo(dbname="postgres", user=USER, host=str(self._folder / "socket"), port=PORT)

    def worker_dsn(self, database_dsn: str) -> str:
        """The same database as a worker's container reaches it."""
        return make_conninfo(database_dsn, host=NAME, port=PORT, password=self._password)

    async def start(self) -> None:
        """Start it (again), and wait until it answers. Raises ServerError."""
        await self._daemon.ask(self.container.start)
        await self.answers()

    async def stop(self, mode: str) -> None:
        """Stop it, as `pg_ctl stop` would; returns when its container has ended."""
        await self._daemon.ask(self.container.kill, STOP_SIGNALS[mode])
        await self._daemon.ask(self.container.wait)

    async def answers(self) -> None:
        """Wait until it answers."""
        deadline = asyncio.get_running_loop().time() + STARTING_BOUND
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self.dsn, connect_timeout=5):
                    return
            except psycopg.OperationalError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise ServerError(
                        f"PostgreSQL in its container did not answer in {STARTING_BOUND:g} s ({error}); {self._words()}"
                    ) from error
            await asyncio.sleep(POLL)

    def _words(self) -> str:
        said = self.log_path.read_text(errors="replace")[-1500:] if self.log_path.exists() else "it wrote no log"
        return f"the end of its log:\n{said}"


@contextlib.asynccontextmanager
async def open_server(daemon: Daemon, image: str, code: Code, network: str) -> AsyncIterator[ContainedServer]:
    """A server on this network. Raises ServerError."""
    base = choose_base(needed_bytes(fsync=False), None, memory=True)
    guard = await asyncio.to_thread(Guard)  # removes the folder if we are killed
    try:
        folder = guard.make_folder(base)
        password = secrets.token_hex(16)
        script = _furnish(folder, code, password)
        container = await daemon.ask(
            daemon.client.containers.create,
            image,
            ["sh", "-c", script],
            user=ACCOUNT,
            network=network,
            hostname=NAME,
            name=f"duress-{os.getpid()}-{secrets.token_hex(2)}-{NAME}",
            environment={"LC_ALL": "C", "TZ": "UTC"},
            volumes={**code.volumes, str(folder): {"bind": INSIDE, "mode": "rw"}},
            labels=daemon.labels,
        )
        await daemon.ask(_connect_as, daemon, network, container)
        server = ContainedServer(daemon, container, folder, password)
        await server.start()
        try:
            yield server
        finally:
            await daemon.ask(container.remove, force=True, v=True)
    finally:
        await asyncio.to_thread(guard.close)


def _connect_as(daemon: Daemon, network: str, container: Any) -> None:
    """Give it the name under which workers look for it."""
    found = daemon.client.networks.get(network)
    found.disconnect(container)
    found.connect(container, aliases=[NAME])


def _furnish(folder: Path, code: Code, password: str) -> str:
    """Lay out the folder; the script that makes a cluster there at the first start, and runs it at every one."""
    binaries = find_binaries("embedded")
    programs = shlex.quote(code.inside(binaries.folder))
    folder.chmod(0o777)
    socket = folder / "socket"
    socket.mkdir()
    socket.chmod(0o777)
    settings = {
        **default_settings(binaries, fsync=False),
        "listen_addresses": "*",
        "unix_socket_directories": f"{INSIDE}/socket",
    }
    (folder / "settings.conf").write_text(as_configuration(settings))
    (folder / "password").write_text(password)
    for name in ("settings.conf", "password"):
        (folder / name).chmod(0o644)
    data = f"{INSIDE}/data"
    return (
        f"cd {INSIDE}; exec >> server.log 2>&1; umask 022;"
        f" if ! test -e {data}/ready; then rm -rf {data};"
        f" {programs}/initdb -D {data} -U {USER} --pwfile password --auth-local=trust --auth-host=scram-sha-256"
        " --encoding=UTF8 --locale=C --wal-segsize=4 --no-sync --no-instructions || exit 1;"
        f" cat settings.conf >> {data}/postgresql.conf; echo 'host all all all scram-sha-256' >> {data}/pg_hba.conf;"
        f" touch {data}/ready; fi;"
        f" exec {programs}/postgres -D {data} -p {PORT}"
    )
