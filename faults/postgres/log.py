"""Reads the log of a server of ours: which sessions were lost, and which of them inside an open transaction.

What PostgreSQL 15 to 18 write when a session ends badly:

* the client went while the session waited for it: `unexpected EOF on client connection with an open transaction`
  (LOG; outside a transaction it writes nothing but the disconnection);
* the client went while a statement ran: `connection to client lost` (FATAL), where connections are checked
  (client_connection_check_interval) or the reply could not be sent;
* pg_terminate_backend, fast shutdown: `terminating connection due to administrator command` (FATAL, 57P01);
* a timeout: `terminating connection due to idle-in-transaction timeout` and its like (FATAL, 25P03, 57P05, 25P04);
* SIGKILL of a backend: `server process (PID n) was terminated by signal 9` (postmaster); the other sessions end with
  it (57P02) and so do all in an immediate shutdown, but those say so to their clients only, not in the log.

The message alone does not tell for all of these whether a transaction was open, the virtual transaction id in our
prefix does: its second half is 0 outside a transaction. The command tag tells whether a statement was running.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

LINE_PREFIX = "%m pid=%p type=%b vxid=%v xid=%x state=%e db=%d app=%a cmd=%i | "

_LINE = re.compile(
    r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) \S+ pid=(?P<pid>\d+) type=(?P<type>.*?) vxid=(?P<vxid>\S*) "
    r"xid=(?P<xid>\d+) state=(?P<state>\w{5}) db=(?P<database>.*?) app=(?P<application>.*) cmd=(?P<command>[^|]*) \| "
    r"(?P<level>[A-Z0-9]+):  (?P<message>.*)"
)
_KILLED = re.compile(r"\(PID (\d+)\) was terminated by signal (\d+)")
_ENDS = (
    "unexpected EOF on client connection with an open transaction",
    "connection to client lost",
    "terminating connection",
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message of the server."""

    at: datetime  # by the server's clock, in UTC
    pid: int
    kind: str  # "client backend", "postmaster", "checkpointer", …
    in_transaction: bool
    xid: int  # 0 when the transaction has written nothing
    sqlstate: str
    database: str
    application: str
    command: str  # "idle in transaction", "INSERT", …: what the session was at
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class LostSession:
    """A session that ended otherwise than by its client's goodbye."""

    at: datetime
    pid: int
    database: str
    application: str
    how: str  # the server's message
    in_transaction: bool | None  # None: the log cannot tell (the process was killed)


def read_log(path: Path) -> Iterator[LogLine]:
    """The messages of a server's log, oldest first, without their details and without a last line that was cut."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            match = _LINE.match(text) if text.endswith("\n") else None
            if match and match["level"] not in ("DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY"):
                yield LogLine(
                    at=datetime.fromisoformat(match["at"] + "+00:00"),
                    pid=int(match["pid"]),
                    kind=match["type"],
                    in_transaction=bool(match["vxid"]) and not match["vxid"].endswith("/0"),
                    xid=int(match["xid"]),
                    sqlstate=match["state"],
                    database=match["database"],
                    application=match["application"],
                    command=match["command"],
                    level=match["level"],
                    message=match["message"].rstrip("\n"),
                )


def lost_sessions(path: Path) -> list[LostSession]:
    """Every session that the log shows as lost, once each, in the order of their ends."""
    lost: dict[int, LostSession] = {}
    started: dict[int, LogLine] = {}
    for line in read_log(path):
        if line.message.startswith("connection authorized") or line.message.startswith("connection received"):
            started[line.pid] = line
        elif line.kind == "client backend" and line.message.startswith(_ENDS):
            # A connection that is lost while a reply is sent says so twice; the first message is the cause.
            lost.setdefault(line.pid, _lost(line, line))
        elif killed := _KILLED.search(line.message):
            victim = started.get(int(killed[1]))
            if victim:
                lost[victim.pid] = _lost(line, victim, known=False)
    return list(lost.values())


def count_lost_in_transaction(path: Path) -> int:
    """How many sessions the log shows as lost inside an open transaction."""
    return sum(1 for session in lost_sessions(path) if session.in_transaction)


def _lost(end: LogLine, session: LogLine, known: bool = True) -> LostSession:
    return LostSession(
        at=end.at,
        pid=session.pid,
        database=session.database,
        application=session.application,
        how=end.message,
        in_transaction=end.in_transaction if known else None,
    )
