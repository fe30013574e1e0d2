"""Databases of a cell: made from templates, taken back to the start, dropped. All in real time, by sessions of its own."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Final

from psycopg import sql

from duress.simulator.server.errors import HarnessError
from duress.simulator.server.session import Outcome, Session

MAINTENANCE: Final = "postgres"
_EMPTYING: Final = files("duress.simulator.server").joinpath("sql", "emptying.sql").read_text(encoding="utf-8")


class Databases:
    """Keeps one session per database that it has had to do with, under control so that a lock in its way is seen."""

    def __init__(self, open_session: Callable[[str], Session]) -> None:
        self._open = open_session
        self._sessions: dict[str, Session] = {}
        self._clones = 0

    def create(self, name: str, template: str | None = None) -> None:
        """A database, as a copy of `template` if given; 12 ms. Nobody may be connected to the template."""
        self._let_go(template or "template1")
        statement = sql.SQL("create database {} template {} strategy file_copy")
        self._run(MAINTENANCE, _with_names(statement, name, template or "template1"))

    def clone(self, template: str) -> str:
        """A fresh copy of a database under a name of its own."""
        self._clones += 1
        name = f"{template}_{self._clones}"
        self.create(name, template)
        return name

    def drop(self, name: str) -> None:
        """Drop a database if it is there. Its sessions must have ended."""
        self._let_go(name)
        self._run(MAINTENANCE, _with_names(sql.SQL("drop database if exists {}"), name))

    def reset(self, name: str, keep: Sequence[str] = ()) -> None:
        """Empty all tables of the user schemas but those in `keep` (qualified names), and set sequences back."""
        self._run(name, sql.SQL("set duress.keep = {}").format(sql.Literal(", ".join(keep))).as_string())
        (found,) = self._run(name, _EMPTYING)
        if found.rows:
            self._run(name, "; ".join(str(statement) for (statement,) in found.rows))

    def forget(self) -> None:
        """The sessions have ended with the server."""
        for session in self._sessions.values():
            session.pgconn.finish()
        self._sessions.clear()

    def _run(self, database: str, statement: str) -> Outcome:
        if database not in self._sessions:
            self._sessions[database] = self._open(database)
        try:
            return self._sessions[database].run(statement)
        except HarnessError:
            self._let_go(database)  # it is stopped somewhere, or in the middle of something
            raise

    def _let_go(self, database: str) -> None:
        if session := self._sessions.pop(database, None):
            session.close()


def _with_names(statement: sql.SQL, *names: str) -> str:
    return statement.format(*map(sql.Identifier, names)).as_string()
