"""What can go wrong with the server's half of a simulation."""


class SimUnavailable(Exception):
    """This machine, or this PostgreSQL, cannot run simulations; says what is missing and how to get it."""


class HarnessError(Exception):
    """The simulator and the server have lost each other: a backend did not answer, or was asked for what it cannot do."""
