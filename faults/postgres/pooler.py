"""PgBouncer in transaction mode in front of a server of ours: sessions of clients, fewer of the server's."""

import time
from signal import SIGKILL
from typing import Final
from urllib.parse import quote

from duress.faults.needs import find_program
from duress.faults.postgres.errors import ServerError
from duress.faults.postgres.server import USER, Server

PORT: Final = 6432
STARTING_BOUND: Final = 10.0  # seconds
POLL: Final = 0.01
SETTINGS: Final = """\
[databases]
* = host={socket} port={port} user={user}
[pgbouncer]
listen_addr =
listen_port = {own}
unix_socket_dir = {folder}
unix_socket_mode = 0777
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 400
log_connections = 1
log_disconnections = 1
ignore_startup_parameters = extra_float_digits
"""


class Pooler:
    """One PgBouncer. It listens on a unix socket in the server's folder, runs as the server's account, and ends with the
    server's guardian at the latest. Start it in a thread. Raises ServerError.
    """

    def __init__(self, server: Server) -> None:
        program = find_program("pgbouncer")
        if program is None:
            raise ServerError("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
        self._server = server
        self.folder = server.directory / f"pooler-{time.monotonic_ns()}"
        self.folder.mkdir(mode=0o711)
        server.give(self.folder)
        self.log_path = self.folder / "log"
        settings = self.folder / "pgbouncer.ini"
        settings.write_text(
            SETTINGS.format(socket=server.socket_directory, port=server.port, user=USER, own=PORT, folder=self.folder)
        )
        server.give(settings)
        server.socket_directory.chmod(0o711)  # PgBouncer reaches it as the server's own account does
        self.pid = server.start_beside([program, settings], self.log_path)
        self._wait()

    def dsn(self, database: str) -> str:
        """A database, through it."""
        folder = quote(str(self.folder), "")
        return f"postgresql://{quote(USER, '')}@/{quote(database, '')}?host={folder}&port={PORT}"

    def close(self) -> None:
        """End it, and with it the sessions that it holds."""
        self._server.end_beside(self.pid, SIGKILL)

    def _wait(self) -> None:
        deadline = time.monotonic() + STARTING_BOUND
        socket = self.folder / f".s.PGSQL.{PORT}"
        while not socket.exists():
            said = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
            if time.monotonic() > deadline or not self._server.lives_beside(self.pid):
                raise ServerError(f"PgBouncer did not start: {said.strip()[-500:] or 'it said nothing'}")
            time.sleep(POLL)
