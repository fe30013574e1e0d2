"""Sessions stopped on request: the next one of a process that comes to a certain place, where others may then act first.

What is stopped stands there until it is let go; meanwhile virtual time passes, and PostgreSQL's own timers with it.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from .server import Point

if TYPE_CHECKING:
    from .session import Session
    from .sessions import Sessions


class Catch:
    """One session, once. `at` is a point inside an exchange, the `nth` of its kind; None is between two exchanges, in an open
    transaction.

    The start of a prepared statement belongs to Bind, and PostgreSQL forgets a cancel request that comes before Execute: such
    a one can be cancelled at its second start only, in a function or trigger.
    """

    def __init__(
        self, sessions: "Sessions", process: str, at: Point | None, nth: int, wanted: "Callable[[Session], bool]"
    ) -> None:
        self.at = at
        self.nth = nth
        self._sessions = sessions
        self._process = process
        self._wanted = wanted
        self._session: asyncio.Future[Session] = sessions.loop.create_future()

    def fits(self, session: "Session") -> bool:
        """Whether this is what it waits for."""
        return not self._session.done() and session.process == self._process and self._wanted(session)

    def take(self, session: "Session") -> bool:
        """It has come to the place. False: another one was first."""
        if self._session.done():
            return False
        session.note("is caught")
        self._sessions.catches.remove(self)
        self._session.set_result(session)
        return True

    @property
    def caught(self) -> "Session | None":
        """Whom it has caught; at a point inside an exchange that one stands there until `Session.let_go`."""
        return self._session.result() if self._session.done() and not self._session.cancelled() else None

    async def wait(self, within: float | None = None) -> "Session | None":
        """Whom it catches; None if that is nobody within so many seconds."""
        await asyncio.wait([self._session], timeout=within)
        return self.caught

    def give_up(self) -> None:
        """Wait no longer; and let go what was caught, if it still stands there."""
        if self.caught is not None:
            self.caught.let_go()
        elif self._session.cancel():
            self._sessions.catches.remove(self)


class Imposed:
    """Settings that the sessions of a process are to have for a while, whatever the process itself sets.

    They are set before each exchange, and put back before the first that begins outside a transaction once they are lifted.
    `inside` are set in open transactions only, whose end undoes them.
    """

    def __init__(self, settings: dict[str, str], inside: dict[str, str]) -> None:
        self.settings = settings
        self.inside = inside
        self.lifted = False
        self._before: dict[Session, dict[str, str]] = {}

    def apply(self, session: "Session") -> None:
        """An exchange of the session is about to begin."""
        if self.lifted:
            if session.idle and (before := self._before.pop(session, None)) is not None:
                session.set(before)
            return
        if session.failed:
            return  # it takes nothing but the rollback that is coming
        if session not in self._before and self.settings:
            self._before[session] = {name: session.end.setting(name) for name in self.settings}
        session.set(self.settings if session.idle else {**self.settings, **self.inside})
