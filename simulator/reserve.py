"""Connections that outlive the run that opened them: each costs 3 ms to make, and some runs want a hundred of them."""

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from .server.settings import MAX_CONNECTIONS

if TYPE_CHECKING:
    from .server import Cell
    from .server_end import ServerEnd

_MOST_PROCESSES: Final = 60  # of a run, with the sessions that are kept
_SPARE: Final = 8  # connections, for the simulator's own


class Reserve:
    """What is kept in a cell for the runs to come, of whichever simulation: sessions that came to an orderly end, for
    clients that ask for such ones, and the strangers that once took all connections.
    """

    def __init__(self) -> None:
        self._sessions: list[ServerEnd] = []
        self._strangers: list[ServerEnd] = []

    def take(self, startup: bytes) -> "ServerEnd | None":
        """A session for a client that asks for one so, if there is any."""
        for end in [kept for kept in self._sessions if kept.can_serve(startup)]:
            self._sessions.remove(end)
            if end.is_alive():
                end.serve(startup)
                return end
            end.close()
        return None

    def has_room(self, live: int) -> bool:
        """Whether a session may be kept beside so many that live."""
        return live + len(self._sessions) < _MOST_PROCESSES

    def keep(self, end: "ServerEnd") -> None:
        """A session has come to its orderly end."""
        self._sessions.append(end)

    def make_room(self, live: int) -> None:
        """One more is to be connected: what is kept must not be the one too many."""
        while self._sessions and live + len(self._sessions) >= _MOST_PROCESSES:
            self._sessions.pop(0).discard()
        while self._strangers and live + len(self._sessions) + len(self._strangers) + _SPARE >= MAX_CONNECTIONS:
            self._strangers.pop().discard()

    def take_strangers(self) -> "list[ServerEnd]":
        """All that are there."""
        taken = [stranger for stranger in self._strangers if stranger.is_alive()]
        for stranger in self._strangers:
            if stranger not in taken:
                stranger.close()
        self._strangers.clear()
        return taken

    def leave_strangers(self, strangers: "list[ServerEnd]", live: int) -> None:
        """They hold all connections no more: as many of them go as others may need."""
        self._strangers += strangers
        self.make_room(live)

    def end(self) -> None:
        """End all, and see their processes go."""
        for end in self._sessions + self._strangers:
            end.discard()
        self._forget()

    def lost(self) -> None:
        """The server has ended all."""
        for end in self._sessions + self._strangers:
            end.close()
        self._forget()

    def _forget(self) -> None:
        self._sessions.clear()
        self._strangers.clear()


_RESERVES: Final[WeakKeyDictionary["Cell", Reserve]] = WeakKeyDictionary()


def reserve_of(cell: "Cell") -> Reserve:
    """The reserve of a cell."""
    return _RESERVES.setdefault(cell, Reserve())
