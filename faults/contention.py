"""What a stranger's session has to do to get in the way of a scenario's transactions: for lock-timeout, deadlock and
serialization-failure, in whatever world.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """SQL statements, without parameters, that change nothing that matters."""

    rows: str  # locks the rows that the transactions change first
    later: str  # locks what they need after that
    change: str  # changes those rows, without a difference, but for what a repeatable read transaction makes of it
