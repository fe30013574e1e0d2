"""A private PostgreSQL that we start, break and leave no trace of."""

from duress.faults.postgres.binaries import Binaries, find_binaries
from duress.faults.postgres.errors import (
    BinariesNotFound,
    CannotDropRoot,
    GuardianLost,
    NoPlace,
    PortInUse,
    ServerError,
)
from duress.faults.postgres.log import LogLine, LostSession, count_lost_in_transaction, lost_sessions, read_log
from duress.faults.postgres.place import remove_leftovers
from duress.faults.postgres.server import Server, StopMode

__all__ = [
    "Binaries",
    "BinariesNotFound",
    "CannotDropRoot",
    "GuardianLost",
    "LogLine",
    "LostSession",
    "NoPlace",
    "PortInUse",
    "Server",
    "ServerError",
    "StopMode",
    "count_lost_in_transaction",
    "find_binaries",
    "lost_sessions",
    "read_log",
    "remove_leftovers",
]
