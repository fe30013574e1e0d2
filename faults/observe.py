"""What really happened, seen from outside: by /proc, by PostgreSQL's log and by what a session of our own is told.

Nothing here knows how a fault is injected, so a sighting confirms a fault and its absence says that it never fired.
Take a watch before the injection: it remembers what was there, so that what was true already confirms nothing.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

SQL = Path(__file__).with_name("sql")
APPLICATION_NAME = "duress:harness"

Look = Callable[[], "str | Awaitable[str | None] | None"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something that was seen, and when at the latest it was so, by the observer's clock."""

    at: float
    what: str


class Observer:
    """Looks until it sees. `clock` stamps sightings; `dsn` is for its own sessions; `log` gives the log of the server of
    the moment, if that is ours.
    """

    def __init__(
        self, *, clock: Callable[[], float], dsn: str, log: Callable[[], Path | None], interval: float = 0.002
    ) -> None:
        self.clock = clock
        self._dsn = dsn
        self._log = log
        self._interval = interval

    async def see(self, look: Look, within: float, unless: asyncio.Event | None = None) -> Sighting | None:
        """Call `look` until it says what it sees; None when it has not `within` seconds, or `unless` is set."""
        deadline = self.clock() + within
        while True:
            seen = look()
            if isinstance(seen, Awaitable):
                seen = await seen
            at = self.clock()
            if seen is not None:
                return Sighting(at, seen)
            if at >= deadline or (unless is not None and unless.is_set()):
                return None
            await asyncio.sleep(self._interval)

    def log(self) -> "LogWatch | None":
        """The lines that the server writes from now on; None when its log is not ours to read."""
        path = self._log()
        return None if path is None else LogWatch(path)

    async def session_gone(self, pid: int, backend_start: object) -> str | None:
        """Whether the session has left pg_stat_activity; nothing is seen while the server does not answer."""
        row = await self._ask("session_lives", {"pid": pid, "backend_start": backend_start})
        return f"session {pid} has left pg_stat_activity" if row == (False,) else None

    async def server_started(self) -> float | None:
        """When the postmaster was started, seconds since 1970; None while the server does not answer."""
        row = await self._ask("server_started", {})
        return None if row is None else float(row[0])

    async def _ask(self, name: str, values: dict[str, object]) -> tuple[Any, ...] | None:
        sql = (SQL / f"{name}.sql").read_bytes()
        try:
            async with await psycopg.AsyncConnection.connect(
                self._dsn, autocommit=True, application_name=APPLICATION_NAME, connect_timeout=2
            ) as connection:
                return await (await connection.execute(sql, values)).fetchone()
        except psycopg.OperationalError:
            return None  # stopped, starting up or in recovery: it has nothing to tell yet


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    pgrp: int
    started: int  # clock ticks since boot


def _stat(pid: int | str) -> _Stat | None:
    """What /proc/<pid>/stat says (proc_pid_stat(5)); None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(fields[0], int(fields[2]), int(fields[19]))


class ProcessWatch:
    """A process, by number and start time, with the group that it leads. What was so at first is no sighting."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._first = _stat(pid)

    def state(self) -> str | None:
        """The letter of proc_pid_stat(5): R, S, D, T (stopped), Z (zombie), …; None when it is gone."""
        now = self._now()
        return now.state if now else None

    def running(self) -> str | None:
        now = self._now()
        if now is None or now.state in "ZXTt":
            return None
        return f"process {self.pid} runs (state {now.state})"

    def stopped(self) -> str | None:
        """Every process of the group has been stopped by a signal."""
        now = self._now()
        if self._first is None or self._first.state == "T" or now is None or now.state != "T":
            return None
        if any(member.state != "T" for member in self._members()):
            return None
        return f"process {self.pid} is stopped (state T)"

    def gone(self) -> str | None:
        """The process has ended and so has everybody in its group; a zombie has ended."""
        now = self._now()
        if self._first is None or self._first.state in "ZX" or (now is not None and now.state not in "ZX"):
            return None
        if any(True for _ in self._members()):
            return None
        return f"process {self.pid} is gone"

    def _now(self) -> _Stat | None:
        now = _stat(self.pid)
        return now if now and self._first and now.started == self._first.started else None

    def _members(self) -> Iterator[_Stat]:
        """Those of the group that live."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                stat = _stat(entry.name)
                if stat and stat.pgrp == self.pid and stat.state not in "ZX":
                    yield stat


class PoolerWatch:
    """PgBouncer's log, from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = path.stat().st_size if path.exists() else 0

    def client(self) -> str | None:
        """A client has logged in to a database."""
        found = _first_line(self._path, self._from, r"login attempt: db=(?!pgbouncer).*")
        return f"PgBouncer's log: {found}" if found else None


class LogWatch:
    """The lines that are written to a log from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = path.stat().st_size if path.exists() else 0

    def killed(self, pid: int) -> str | None:
        """The postmaster noticed that this backend was ended by SIGKILL."""
        return self._find(rf"\(PID {pid}\) was terminated by signal 9")

    def ready(self) -> str | None:
        return self._find(r"database system is ready to accept connections")

    def terminated(self, pid: int) -> str | None:
        """This backend ended itself at an administrator's command (the prefix of our servers' lines says who)."""
        return self._find(rf"\bpid={pid} .*terminating connection due to administrator command")

    def crashed(self) -> str | None:
        """The postmaster has ended all sessions, because one of them died."""
        return self._find(r"terminating any other active server processes")

    def promoted(self) -> str | None:
        """A standby has left recovery on a timeline of its own, and takes writes."""
        if self._find(r"selected new timeline ID") is None:
            return None
        return self._find(r"database system is ready to accept connections")

    def disk_full(self) -> str | None:
        """Somebody could not write for want of space."""
        return self._find(r"(ERROR|FATAL|PANIC):  .*No space left on device")

    def refused(self) -> str | None:
        """Somebody was told that there are too many sessions."""
        return self._find(r"state=53300 .*(FATAL|ERROR):  .*")

    def cancelled(self, pid: int) -> str | None:
        """A statement of this backend was cancelled by somebody."""
        return self._find(rf"\bpid={pid} .*canceling statement due to user request")

    def deadlocked(self, pid: int) -> str | None:
        """The transaction of this backend was ended to break a deadlock."""
        return self._find(rf"\bpid={pid} .*deadlock detected")

    def not_serializable(self, pid: int) -> str | None:
        """The transaction of this backend came too late for its snapshot."""
        return self._find(rf"\bpid={pid} .*could not serialize access")

    def told(self, application: str, sqlstate: str) -> str | None:
        """A session of this name was told this error."""
        return self._find(rf"state={sqlstate} db=\S* app={re.escape(application)} .*(?:ERROR|FATAL):  .*")

    def _find(self, pattern: str) -> str | None:
        """What the first line that fits says, from the start of the watch on."""
        found = _first_line(self._path, self._from, pattern)
        return f"PostgreSQL's log: {found}" if found else None


def _first_line(path: Path, offset: int, pattern: str) -> str | None:
    """The first line after `offset` that fits, from where it does."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(offset)
        text = file.read().decode(errors="replace")
    for line in text.splitlines():
        if found := re.search(pattern, line):
            return line[found.start() :].strip()
    return None
