"""A primary and its standby, with real streaming replication between them; and what is left of it after a failover.

The standby is a second private server, made from the first by pg_basebackup. `sync`: a commit is acknowledged once the
standby has it on disk as the server's own settings understand that (`synchronous_commit = on`). `async`: at once, so that
a failover may lose acknowledged commits.
"""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote

import psycopg

from duress.faults.postgres.binaries import Binaries
from duress.faults.postgres.errors import ServerError
from duress.faults.postgres.relay import Relay
from duress.faults.postgres.server import STANDBY, USER, Server

Mode = Literal["sync", "async"]

STREAMING_BOUND: Final = 30.0  # seconds from its start until the standby has caught up
PROMOTION_BOUND: Final = 60  # seconds
POLL: Final = 0.01
STILL: Final = 10  # looks in a row at which nothing more was replayed


class Pair:
    """Two servers. `primary` is the one that takes writes: after `promote` it is what was `standby`.

    A context manager: on leaving both are ended and their folders removed.
    """

    def __init__(self, primary: Server, mode: Mode, latency: float) -> None:
        self.mode = mode
        self.first = primary
        self.primary = primary
        self.link = Relay(primary.port, latency)
        try:
            self.standby = Server.start(
                binaries=primary.binaries,
                fsync=primary.fsync,
                copy_of=primary,
                replicate_over=self.link.port,
                small_disk=primary.small_disk,
            )
        except BaseException:
            self.link.close()
            raise

    @classmethod
    def start(
        cls,
        mode: Mode,
        *,
        latency: float = 0.0,
        binaries: Binaries | None = None,
        fsync: bool = False,
        settings: Mapping[str, str] | None = None,
        small_disk: bool = False,
    ) -> "Pair":
        """Both servers, the standby caught up; `latency` seconds is what the link between them takes. Some 2 s.

        Raises ServerError.
        """
        primary = Server.start(binaries=binaries, fsync=fsync, settings=settings, small_disk=small_disk)
        try:
            pair = cls(primary, mode, latency)
        except BaseException:
            primary.close()
            raise
        try:
            pair._replicate()
        except BaseException:
            pair.close()
            raise
        return pair

    def dsn(self, database: str = "postgres", *, tcp: bool = False) -> str:
        """One DSN for both: libpq goes to whichever takes writes (target_session_attrs), so nobody has to be told."""
        if tcp:  # the standby is a copy, with the same password
            alone = self.first.dsn(database, tcp=True)
            both = f"@127.0.0.1:{self.first.port},127.0.0.1:{self.standby.port}/"
            return alone.replace(f"@127.0.0.1:{self.first.port}/", both) + "?target_session_attrs=read-write"
        hosts = ",".join(quote(str(server.socket_directory), "") for server in (self.first, self.standby))
        ports = f"{self.first.port},{self.standby.port}"
        return (
            f"postgresql://{quote(USER, '')}@/{quote(database, '')}?host={hosts}&port={ports}"
            "&target_session_attrs=read-write"
        )

    def lose_primary(self) -> None:
        """SIGKILL to all processes of the primary, and nothing that was under way to the standby arrives. Returns when the
        standby has replayed all that it has.
        """
        self.link.cut()
        self.first.kill()
        with psycopg.connect(self.standby.dsn(), autocommit=True) as connection:
            same, last = 0, None
            while same < STILL:
                received, replayed = connection.execute(REPLAYED).fetchone() or (None, None)
                same = same + 1 if replayed == last else 0
                if received == replayed:
                    return
                last = replayed  # the last record may have come in part only: then it is never replayed
                time.sleep(POLL)

    def promote(self) -> None:
        """Make the standby the primary; returns when it takes writes. Raises ServerError."""
        with psycopg.connect(self.standby.dsn(), autocommit=True) as connection:
            row = connection.execute("select pg_promote(true, %s)", [PROMOTION_BOUND]).fetchone()
        if row != (True,):
            raise ServerError(f"the standby was not promoted within {PROMOTION_BOUND} s; see {self.standby.log_path}")
        self.primary = self.standby

    @property
    def log_paths(self) -> tuple[Path, Path]:
        """The logs of both."""
        return self.first.log_path, self.standby.log_path

    def close(self) -> None:
        """End both; may be called twice."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.first.close)
            stack.callback(self.standby.close)
            stack.callback(self.link.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _replicate(self) -> None:
        """Wait until the standby streams and has caught up, as the mode wants it. The setting is the first server's own: the
        standby was copied before, and must wait for nobody once it is promoted.
        """
        with psycopg.connect(self.first.dsn(), autocommit=True) as connection:
            if self.mode == "sync":
                connection.execute(f"alter system set synchronous_standby_names = '{STANDBY}'")
                connection.execute("select pg_reload_conf()")
            deadline = time.monotonic() + STREAMING_BOUND
            while True:
                row = connection.execute(CAUGHT_UP, [STANDBY, self.mode]).fetchone()
                if row is not None:
                    return
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"the standby did not catch up in {STREAMING_BOUND:g} s; see {self.standby.log_path}"
                    )
                time.sleep(POLL)


REPLAYED: Final = "select pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()"
CAUGHT_UP: Final = """
    select from pg_stat_replication
    where application_name = %s and state = 'streaming' and sync_state = %s and replay_lsn >= pg_current_wal_flush_lsn()
"""
