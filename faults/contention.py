"""What a stranger's session has to do to get in the way of a scenario's transactions: for lock-timeout, deadlock and
serialization-failure, in whatever world.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """SQL statements, without parameters, that change nothing that matters."""

    first: str  # locks, for itself, the table that its transactions change first
    later: str  # locks the table that they change after that
    change: str  # changes the rows of the first, without a difference, but for what a repeatable read transaction makes of it
