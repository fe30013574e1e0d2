"""What a backend can be doing when it is not running: the values that `Backend.wait` returns."""

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class Point(IntFlag):
    """A moment inside a statement or around COMMIT at which a backend can be held. The numbers are control.c's."""

    STATEMENT_START = 1  # snapshot taken, nothing done; inside functions, triggers and foreign key checks too
    STATEMENT_END = 2
    BEFORE_COMMIT = 4  # deferred constraints checked, no commit record yet
    COMMITTED = 8  # durable and visible, locks still held (of tables, advisory ones; rows are free), reply not sent
    ABORTED = 16  # rolled back, locks still held
    PREPARED = 32  # PREPARE TRANSACTION done
    ANY = 63


class Io(IntFlag):
    """What a backend does with files, and can be made to fail at. The numbers are control.c's."""

    DATA_WRITE = 1  # tables and indexes, mostly when they grow
    DATA_SYNC = 2
    WAL_WRITE = 4
    WAL_SYNC = 8
    WRITE = 5
    SYNC = 10
    ANY = 15


class WaitClass(IntEnum):
    """PostgreSQL's classes of waits that are events to us."""

    LOCK = 3
    BUFFER_PIN = 4
    IPC = 8
    TIMEOUT = 9


@dataclass(frozen=True, slots=True)
class Ready:
    """The backend waits for its client: it has taken all that was sent and has sent all that it had to say.

    `sending`: it could not send all, and waits for the client to read. `writable`: not idle, but `wait` was asked to
    return when the socket takes more, and it does.
    """

    sending: bool = False
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """It waits for another session or for the clock, and goes on only when it is granted."""

    wait_class: WaitClass
    wait_event: str  # PostgreSQL's name: "transactionid", "tuple", "advisory", "PgSleep", "SafeSnapshot"
    until_us: int | None  # when the wait times out, in virtual time since 1970


@dataclass(frozen=True, slots=True)
class Held:
    """It was stopped at the point that it was armed for, and goes on when it is granted."""

    point: Point


@dataclass(frozen=True, slots=True)
class Gone:
    """The process has ended, and with it its locks. The socket may still hold its last words."""


Event = Ready | Blocked | Held | Gone
