"""A private PostgreSQL: ours to clone databases in, to stop, crash and restart; gone when we are, however we die."""

import contextlib
import os
import random
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT, SIGTERM, Signals
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from duress.faults.postgres import disk
from duress.faults.postgres.account import Account, account_to_drop_to
from duress.faults.postgres.binaries import SERVER_PROGRAMS, Binaries, find_binaries
from duress.faults.postgres.errors import NoPlace, PortInUse, ServerError
from duress.faults.postgres.guard import Guard
from duress.faults.postgres.place import (
    HOW_TO_CHOOSE,
    choose_base,
    choose_program_bases,
    choose_socket_base,
    remove_leftovers,
)
from duress.faults.postgres.settings import WAL_SEGMENT_MB, as_configuration, default_settings, needed_bytes
from duress.faults.undo import children

StopMode = Literal["fast", "immediate", "smart"]

USER: Final = "duress"
STANDBY: Final = "duress_standby"  # the application_name of a standby's session on its primary
STOP_SIGNALS: Final = {"fast": SIGINT, "immediate": SIGQUIT, "smart": SIGTERM}
# Below the range that the kernel takes ports of outgoing connections from, so that ours is still free at a restart.
PORTS: Final = range(15432, 32000)
PORT_ATTEMPTS: Final = 20
STOP_TIMEOUT_S: Final = 60.0
ORPHANS_S: Final = 1.0
POLL_S: Final = 0.01
# Nothing of the user's environment (PGOPTIONS, LANG, LD_PRELOAD) reaches the server.
ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Server:
    """A running PostgreSQL with one superuser, `duress`; use as a context manager, or call `close`.

    It listens on a unix socket (trusted; the folder is closed to other users) and on 127.0.0.1 (with a password that
    `dsn` knows). Methods are safe to call from several threads and block until done.
    """

    def __init__(
        self,
        guard: Guard,
        binaries: Binaries,
        account: Account | None,
        *,
        base: Path,
        fsync: bool,
        port: int | None,
        small_disk: bool = False,
    ) -> None:
        """Lay out the folder; `start` is how to get a Server."""
        self._guard = guard
        self._account = account
        self._fixed_port = port
        self._password = secrets.token_hex(16)
        self.directory = guard.make_folder(base)
        self.directory.chmod(0o711)  # the account must pass; what it holds is closed to others
        socket_base = choose_socket_base(self.directory, account)
        self.socket_directory = (guard.make_folder(socket_base) if socket_base else self.directory) / "socket"
        self.socket_directory.parent.chmod(0o711)
        self.data_directory = self.directory / "data"
        self.log_path = self.directory / "server.log"
        for folder in (self.data_directory, self.socket_directory):
            folder.mkdir(mode=0o700)
            self.give(folder)
        self.small_disk = small_disk
        if small_disk:
            disk.mount(self.data_directory, account)
        self.fsync = fsync
        self.port = port or 0
        self.version = 0
        self.postmaster_pid = 0
        self.binaries = binaries
        self._programs = self._reachable(binaries)
        self._environment = ENVIRONMENT

    @classmethod
    def start(
        cls,
        *,
        binaries: Binaries | None = None,
        fsync: bool = False,
        settings: Mapping[str, str] | None = None,
        directory: Path | None = None,
        port: int | None = None,
        furnish: "Callable[[Server], Mapping[str, str]] | None" = None,
        copy_of: "Server | None" = None,
        replicate_over: int = 0,
        small_disk: bool = False,
    ) -> "Server":
        """Make a new cluster and start it, in some 0.7 s.

        Without `fsync` its files lie in memory-backed storage where that has room. `directory` is where its folder is
        made instead, `port` is taken instead of a free one. `furnish` may put files into the server's folder before it
        starts, and returns what to add to its environment. With `copy_of` it is a standby of that server, which it reaches
        at the port `replicate_over`; with `small_disk` its data lies on a file system of its own. Raises ServerError:
        BinariesNotFound, NoPlace, PortInUse, CannotDropRoot, or with the end of the server's log.
        """
        binaries = binaries or find_binaries()
        account = account_to_drop_to()
        remove_leftovers()
        base = choose_base(needed_bytes(fsync), account, memory=not fsync, directory=directory)
        guard = Guard()
        try:
            server = cls(guard, binaries, account, base=base, fsync=fsync, port=port, small_disk=small_disk)
            if copy_of:
                server._copy(copy_of, replicate_over)
            else:
                server._initialise({**default_settings(binaries, fsync), **(settings or {})})
            if furnish:
                server._environment = {**ENVIRONMENT, **furnish(server)}
            server._launch()
        except BaseException:
            guard.close()
            raise
        return server

    def dsn(self, database: str = "postgres", *, user: str = USER, tcp: bool = False) -> str:
        """A connection URL: over the unix socket, or over 127.0.0.1 with `tcp`."""
        if tcp:
            return f"postgresql://{quote(user, '')}:{self._password}@127.0.0.1:{self.port}/{quote(database, '')}"
        folder = quote(str(self.socket_directory), "")
        return f"postgresql://{quote(user, '')}@/{quote(database, '')}?host={folder}&port={self.port}"

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders that were made for this server, and go with it."""
        return self._guard.folders

    def give(self, path: Path) -> None:
        """Make a file or folder belong to the account that the server runs as."""
        if self._account:
            shutil.chown(path, self._account.uid, self._account.gid)

    def make_program_folder(self) -> Path:
        """A folder from which the server can load code, which memory-backed storage often forbids; it goes with the rest."""
        refused = []
        for base in choose_program_bases():
            if os.statvfs(base).f_flag & os.ST_NOEXEC:
                refused.append(f"{base}: mounted noexec")
            elif self._account and not self._account.can_enter(base):
                refused.append(f"{base}: user {self._account.name!r} may not enter it")
            else:
                folder = self._guard.make_folder(base)
                folder.chmod(0o711)
                return folder
        raise NoPlace(f"No folder that PostgreSQL could load code from. {'; '.join(refused)}. Name another in TMPDIR.")

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """Create a database, as a copy of `template` if given (nobody may be connected to that)."""
        self._execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template or "template1")
            )
        )

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, ending its sessions."""
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def stop(self, mode: StopMode = "fast", *, timeout: float = STOP_TIMEOUT_S) -> None:
        """Stop the server and wait until all its processes are gone; it may be stopped, or dead, already.

        Backends that outlive their postmaster (it was killed, and they are busy) are killed: it could not start again
        beside them. Raises ServerError when the server does not stop in `timeout` s.
        """
        told = self._guard.signal(self.postmaster_pid, STOP_SIGNALS[mode])
        if told and self._guard.wait(self.postmaster_pid, timeout) is None:
            raise ServerError(f"PostgreSQL (pid {self.postmaster_pid}) did not stop ({mode}) in {timeout:g} s")
        self._guard.settle(ORPHANS_S)

    def kill(self) -> None:
        """SIGKILL to the postmaster and to all its children at once, as when their host is lost."""
        family = [child.pid for child in children(self.postmaster_pid)]
        for pid in (self.postmaster_pid, *family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
        self._guard.settle(0.0)

    def start_beside(self, argv: Sequence[str | Path], log: Path) -> int:
        """Start another program as the server's account, which ends with the server at the latest; its pid."""
        return self._guard.start(
            argv, log=log, account=self._account, environment=self._environment, end_signal=SIGKILL
        )

    def lives_beside(self, pid: int) -> bool:
        """Whether such a program has not ended."""
        return self._guard.wait(pid, 0.0) is None

    def end_beside(self, pid: int, number: Signals) -> None:
        """End such a program; returns when it has."""
        self._guard.signal(pid, number)
        self._guard.wait(pid, ORPHANS_S)

    def running(self) -> bool:
        """Whether the postmaster has not ended."""
        return self._guard.wait(self.postmaster_pid, 0.0) is None

    def crash(self) -> None:
        """Make all of the server's processes quit at once (SIGQUIT), with no checkpoint: the next start recovers."""
        self.stop("immediate")

    def restart(self, mode: StopMode = "fast", down: float = 0.0) -> None:
        """Stop, stay away for `down` seconds, start on the same port and wait until it answers."""
        self.stop(mode)
        time.sleep(down)
        self._launch()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until the server answers; raises ServerError with the end of its log when it ends or does not."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                with psycopg.connect(self.dsn(), connect_timeout=10) as connection:
                    self.version = connection.info.server_version
                    return
            except psycopg.OperationalError as error:
                status = self._guard.wait(self.postmaster_pid, POLL_S)
                if status is not None:
                    raise ServerError(f"PostgreSQL ended with status {status}. {self._log_end()}") from error
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"PostgreSQL did not answer in {timeout:g} s ({error}). {self._log_end()}"
                    ) from error

    def close(self) -> None:
        """End the server and remove its folder; may be called twice."""
        self._guard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(statement)

    def _reachable(self, binaries: Binaries) -> Binaries:
        """The programs, or copies of them when the account that they run under cannot reach them."""
        if not self._account:
            return binaries
        wrong = self._account_cannot_run(binaries)
        if not wrong:
            return binaries
        refused = [f"{binaries.folder}: {wrong}"]
        for base in choose_program_bases():
            try:
                folder = self._guard.make_folder(base)
                copied = binaries.copied_to(folder)
            except OSError as error:
                refused.append(f"{base}: {error}")
                continue
            wrong = self._account_cannot_run(copied)
            if not wrong:
                return copied
            refused.append(f"{folder}: {wrong}")
        raise NoPlace(
            f"User {self._account.name!r} can run PostgreSQL's programs neither where they are nor from a copy: "
            f"{'; '.join(refused)}. Name a folder that allows programs in TMPDIR."
        )

    def _account_cannot_run(self, binaries: Binaries) -> str:
        assert self._account
        reasons = (self._account.why_not([binaries.folder / name, "--version"]) for name in SERVER_PROGRAMS)
        return next((reason for reason in reasons if reason), "")

    def _initialise(self, settings: Mapping[str, str]) -> None:
        """Run initdb and write down the settings."""
        password = self.directory / "password"
        password.touch(mode=0o600)
        password.write_text(self._password)
        self.give(password)
        pid = self._guard.start(
            [
                *(self._programs.program("initdb"), "-D", self.data_directory, "-U", USER, "--pwfile", password),
                *("--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                *(f"--wal-segsize={WAL_SEGMENT_MB}", "--no-sync", "--no-instructions"),
            ],
            log=self.log_path,
            account=self._account,
            environment=ENVIRONMENT,
            end_signal=SIGKILL,
        )
        status = self._guard.wait(pid, 300.0)
        password.unlink()
        if status != 0:
            said = self._log_end()
            if "No space left on device" in said:
                raise NoPlace(
                    f"{self.directory.parent} has no space for PostgreSQL's files, which may take "
                    f"{needed_bytes(self.fsync) // 2**20} MB. {HOW_TO_CHOOSE} {said}"
                )
            raise ServerError(f"initdb ended with status {status}. {said}")
        with (self.data_directory / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(as_configuration(settings))

    def _copy(self, primary: "Server", port: int) -> None:
        """Take a base backup of a running server, and follow it."""
        program = primary.binaries.program("pg_basebackup")
        done = subprocess.run(
            [
                *(program, "-D", self.data_directory, "-d", primary.dsn()),
                "--checkpoint=fast",
                "--no-sync",
                "-X",
                "stream",
            ],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"pg_basebackup ended with status {done.returncode}: {done.stderr.strip()}")
        self._password = primary._password
        followed = f"host=127.0.0.1 port={port} user={USER} password={self._password} application_name={STANDBY}"
        (self.data_directory / "standby.signal").touch()
        with (self.data_directory / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(as_configuration({"primary_conninfo": followed}))
        for folder, _, names in os.walk(self.data_directory):
            self.give(Path(folder))
            for name in names:
                self.give(Path(folder, name))

    def _launch(self) -> None:
        """Start the postmaster, on another port when the one we picked is taken, and wait until it answers."""
        for _ in range(PORT_ATTEMPTS):
            self.port = self.port or random.choice(PORTS)
            logged = self.log_path.stat().st_size if self.log_path.exists() else 0
            self.postmaster_pid = self._guard.start(
                [
                    *(self._programs.program("postgres"), "-D", self.data_directory),
                    *("-p", str(self.port), "-k", self.socket_directory),
                ],
                log=self.log_path,
                account=self._account,
                environment=self._environment,
                end_signal=SIGQUIT,
            )
            try:
                self.wait_ready()
            except ServerError:
                if "Address already in use" not in self._log_end(logged):
                    raise
                if self._fixed_port:
                    raise PortInUse(
                        f"Port {self._fixed_port} of 127.0.0.1 is in use: stop what listens there, or name another."
                    ) from None
                self.port = 0
            else:
                return
        raise PortInUse(f"No free port in {PORT_ATTEMPTS} attempts between {PORTS.start} and {PORTS.stop}.")

    def _log_end(self, offset: int = 0, lines: int = 15) -> str:
        """The last lines of the log, after `offset`."""
        with self.log_path.open("rb") as file:
            file.seek(offset)
            last = file.read().decode(errors="replace").strip().splitlines()[-lines:]
        return "The end of its log:\n  " + "\n  ".join(last)
