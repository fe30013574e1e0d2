"""What can go wrong with a PostgreSQL server of our own; each message says what was tried and what to do next."""


class ServerError(Exception):
    """A private PostgreSQL could not be found, placed, started or stopped."""


class BinariesNotFound(ServerError):
    """No usable PostgreSQL binaries where we were told to look."""


class NoPlace(ServerError):
    """No folder that can hold the server's files: too little space, or not ours to use."""


class PortInUse(ServerError):
    """The port that was asked for by number is taken."""


class CannotDropRoot(ServerError):
    """We are root, PostgreSQL refuses to be, and no other account can be taken."""


class GuardianLost(ServerError):
    """The guardian process is gone, and the server has ended with it."""
