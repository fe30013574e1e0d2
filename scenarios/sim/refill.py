"""Puts a furnished database back to its start: what the set-up left in the tables is kept as bytes and copied in again."""

from typing import Any

from psycopg import Connection, sql

TABLES = """
    select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables
    where schemaname not in ('pg_catalog', 'information_schema') order by schemaname, tablename
"""
SEQUENCES = """
    select quote_ident(schemaname) || '.' || quote_ident(sequencename), last_value from pg_sequences
    where last_value is not null order by schemaname, sequencename
"""


def let_grow(connection: Connection[Any]) -> None:
    """Let tables grow with every few rows: runs are so short that else a full disk would hardly ever be noticed."""
    for (table,) in connection.execute(TABLES).fetchall():
        connection.execute(f"alter table {table} set (fillfactor = 10)".encode())


class Contents:
    """The rows of all tables, and where the sequences stand."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, bytes]] = []
        self._sequences: list[tuple[str, int]] = []

    def take(self, connection: Connection[Any]) -> None:
        """Read everything, and leave the tables empty."""
        self._sequences = connection.execute(SEQUENCES).fetchall()
        tables = [row[0] for row in connection.execute(TABLES)]
        with connection.cursor() as cursor:
            for table in tables:
                with cursor.copy(f"copy {table} to stdout (format binary)".encode()) as copy:
                    self._rows.append((table, b"".join(bytes(piece) for piece in copy)))
        connection.execute(f"truncate {', '.join(tables)} restart identity".encode())

    def put(self, connection: Connection[Any]) -> None:
        """Fill empty tables."""
        connection.execute("set session_replication_role = replica")  # rows come in no order of foreign keys
        with connection.cursor() as cursor:
            for table, rows in self._rows:
                with cursor.copy(f"copy {table} from stdin (format binary)".encode()) as copy:
                    copy.write(rows)
        for name, value in self._sequences:
            connection.execute(sql.SQL("select setval({}, {})").format(name, value))
        connection.execute("reset session_replication_role")
