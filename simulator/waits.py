"""Who waits for whom in the server, in the numbers of a run's sessions: for the report of a run that is stuck."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .server import Blocked, Held

if TYPE_CHECKING:
    from .control import Control
    from .session import Session

_WAITS: Final = b"""
select pid, pg_blocking_pids(pid), state, query
from pg_stat_activity
where pid = any(%s)
"""
_BLOCKERS: Final = b"select unnest(pg_blocking_pids(%s) || pg_safe_snapshot_blocking_pids(%s))"


def blockers_of(session: "Session", sessions: "Sequence[Session]", control: "Control") -> list[int]:
    """The numbers of the sessions that one waits for, ascending."""
    numbers = {other.end.pid: other.number for other in sessions}
    pid = session.end.pid
    return sorted({numbers[row[0]] for row in control.rows(_BLOCKERS, (pid, pid)) if row[0] in numbers})


def describe_sessions(sessions: "Sequence[Session]", control: "Control") -> list[str]:
    """A line for each session: what it does, for whom, and since which statement."""
    numbers = {session.end.pid: session.number for session in sessions}
    if not numbers:
        return []
    rows = {row[0]: row[1:] for row in control.rows(_WAITS, (list(numbers),))}
    return [_describe(session, rows.get(session.end.pid), numbers) for session in sessions]


def _describe(session: "Session", row: tuple[Any, ...] | None, numbers: dict[int, int]) -> str:
    blockers, state, statement = row or ((), "ended", "")
    whose = session.process or "nobody"
    match session.standing:
        case Blocked() as wait:
            what = f"waits for {wait.wait_class.name.lower()} {wait.wait_event}"
        case Held() as hold:
            what = f"is held at {hold.point.name}"
        case _:
            what = f"is {state}"
    if blockers:
        what += " held by " + ", ".join(f"session {numbers.get(pid, '?')}" for pid in blockers)
    orphan = "" if session.link is not None else ", its client is gone"
    text = " ".join(statement.split())
    return f"  session {session.number} ({whose}{orphan}) {what}: {text[:120]}"
