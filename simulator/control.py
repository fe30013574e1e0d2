"""A connection of the harness's own, in real time: for what is done between runs, and for reports."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

Setup = str | Callable[[psycopg.Connection[Any]], object]

# A run refuses connections that block; what is kept here is not rebound.
_CONNECT: Final = [psycopg.Connection.connect]


class Control:
    """Connects when it is needed, and again when the server has been away. It is under no control and in no run."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = _CONNECT[0](self._dsn, autocommit=True)
        return self._connection

    def rows(self, query: bytes, arguments: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query."""
        return self._connected().execute(query, arguments).fetchall()

    def read(self, queries: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
        """The rows of several queries, in one snapshot."""
        connection = self._connected()
        with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute("set transaction isolation level repeatable read read only")
            return {name: cursor.execute(query.encode()).fetchall() for name, query in queries.items()}

    def apply(self, setup: Setup) -> None:
        """Run SQL, or a function of the connection."""
        if not isinstance(setup, str):
            setup(self._connected())
        elif setup.strip():
            self._connected().execute(setup.encode())

    def close(self) -> None:
        """End it; it connects again if it is needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
