"""Sessions under control on a database of their own, for one test."""

from dataclasses import dataclass, field

from duress.simulator.server import Cell, Event, HarnessError, Outcome, Session


@dataclass
class Room:
    cell: Cell
    database: str
    sessions: list[Session] = field(default_factory=list)

    def session(self, seed: int | None = None) -> Session:
        """A new session; its seed is its number unless given."""
        session = self.cell.open_session(self.database, len(self.sessions) + 1 if seed is None else seed)
        self.sessions.append(session)
        return session

    def three(self) -> tuple[Session, Session, Session]:
        return self.session(), self.session(), self.session()

    def leave(self) -> None:
        """End all sessions, wherever they stand, and drop the database."""
        for session in self.sessions:
            session.close()
        self.cell.drop_database(self.database)


def row(session: Session, statement: str) -> tuple[str | None, ...]:
    """The one row that a statement answers with."""
    (reply,) = session.run(statement)
    (only,) = reply.rows
    return only


def rows(session: Session, statement: str) -> list[tuple[str | None, ...]]:
    (reply,) = session.run(statement)
    return list(reply.rows)


def sqlstates(outcome: Outcome | Event) -> list[str]:
    """The sqlstates of an answer, "" where a statement succeeded."""
    if not isinstance(outcome, tuple):
        raise HarnessError(f"there is no answer yet: {outcome}")
    return [reply.sqlstate for reply in outcome]


def go_off(room: Room, session: Session) -> Outcome | Event:
    """Let time pass until the session's own timer is due, deliver it, and let it go on from the wait that this woke it in."""
    due = session.backend.timer_us
    assert due is not None, f"no timer is set: {session.backend.describe()}"
    room.cell.set_now(max(due, room.cell.now_us))
    session.backend.deliver_timer()
    return session.grant()


def until_answered(room: Room, session: Session, outcome: Outcome | Event) -> Outcome:
    """Let timers and times go off until a blocked session has its answer."""
    while not isinstance(outcome, tuple):
        until, timer = session.backend.wait_until_us, session.backend.timer_us
        if until is not None and (timer is None or until < timer):
            room.cell.set_now(until)
            outcome = session.grant(timed_out=True)
        else:
            outcome = go_off(room, session)
    return outcome
