"""The rules that are armed on one worker's port: what they wait for, and how often it has come."""

import re
from collections.abc import Iterator

from duress.faults.proxy.messages import Direction, name_of
from duress.faults.proxy.orders import AT_REQUEST, CutCommit, Interject, Rule, Strike

_ROWS = ("DataRow", "CopyData", None)


class Armed:
    """One rule at work."""

    def __init__(self, number: int, rule: Rule) -> None:
        self.number = number
        self.rule = rule
        self.seen = 0
        text = None if isinstance(rule, CutCommit) else _pattern_of(rule)
        match rule:
            case Strike(pattern=pattern):
                self._first = pattern.occurrence
            case CutCommit(occurrence=occurrence):
                self._first = occurrence
            case Interject():
                self._first = 1
        self._statement = None if text is None else re.compile(text.encode(), re.IGNORECASE)

    def fits(self, direction: Direction, kind: int, sql: bytes) -> bool:
        """Whether a Strike means this message."""
        assert isinstance(self.rule, Strike)
        pattern = self.rule.pattern
        if pattern.direction != direction or pattern.message not in (None, name_of(kind, direction)):
            return False
        return self._statement is None or self._statement.search(sql) is not None

    def precedes(self, sql: bytes, status: str) -> bool:
        """Whether an Interject comes before an exchange that begins with this SQL, in a session of this status."""
        assert isinstance(self.rule, Interject)
        if status == "E" or self.rule.inside not in (None, status == "T"):
            return False
        return self._statement is None or self._statement.search(sql) is not None

    def due(self) -> bool:
        """Count one that fits; whether this one is to be struck."""
        self.seen += 1
        return self.seen >= self._first

    @property
    def holds_on(self) -> bool:
        """It has an effect until it is withdrawn."""
        return isinstance(self.rule, Strike) and self.rule.deed == "hold" and self.rule.seconds is None

    @property
    def spent(self) -> bool:
        """It will strike no more."""
        if isinstance(self.rule, Interject) and self.rule.each_connection:
            return False
        times = 1 if isinstance(self.rule, CutCommit) else self.rule.times
        return times is not None and self.seen >= self._first + times - 1


def _pattern_of(rule: Strike | Interject) -> str | None:
    return rule.pattern.statement if isinstance(rule, Strike) else rule.statement


class Rules:
    """All rules of one port, in the order in which they were armed; the first that fits a message has it."""

    def __init__(self) -> None:
        self._armed: dict[int, Armed] = {}

    def __bool__(self) -> bool:
        return bool(self._armed)

    @property
    def rows_alone(self) -> bool:
        """Whether single rows matter."""
        return any(isinstance(one.rule, Strike) and one.rule.pattern.message in _ROWS for one in self._armed.values())

    def arm(self, number: int, rule: Rule) -> None:
        self._armed[number] = Armed(number, rule)

    def withdraw(self, number: int) -> bool:
        """Forget a rule; whether it was still armed."""
        return self._armed.pop(number, None) is not None

    def has(self, number: int) -> bool:
        return number in self._armed

    def commit_cuts(self, *, at_request: bool) -> Iterator[tuple[Armed, CutCommit]]:
        """Those that wait for a COMMIT, by the side that they look at."""
        for one in list(self._armed.values()):
            if isinstance(one.rule, CutCommit) and not one.spent and (one.rule.point in AT_REQUEST) == at_request:
                yield one, one.rule

    def interjections(self) -> Iterator[tuple[Armed, Interject]]:
        """Statements of ours that are to be run."""
        for one in list(self._armed.values()):
            if isinstance(one.rule, Interject) and not one.spent:
                yield one, one.rule

    def strike(self, direction: Direction, kind: int, sql: bytes) -> tuple[Armed, Strike] | None:
        """What is to be done to a message; counts it."""
        for one in list(self._armed.values()):
            if isinstance(one.rule, Strike) and not one.spent and one.fits(direction, kind, sql) and one.due():
                return one, one.rule
        return None
