"""PostgreSQL's own limit on this server: pgbench's single INSERT, prepared, one transaction each.

The table is what an engine could at best need for a checkpoint: logged, a key, a value, a time.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg

TABLE = "create table limit_insert (number bigint generated always as identity primary key, value json not null,\
 at timestamptz not null default clock_timestamp())"
INSERT = "insert into limit_insert (value) values (%s)"
INSERT_VALUE = "1"
# The same row as a checkpoint's, without an engine: what its columns and its key cost by themselves.
ROW_TABLE = """create table limit_row (number bigint not null, step text collate "C" not null, name text not null,
 kind text not null, failed boolean not null, value json not null, owner bigint not null, epoch integer not null,
 at timestamptz not null default clock_timestamp(), primary key (number, step))"""
ROW_INSERT = (
    "insert into limit_row (number, step, name, kind, failed, value, owner, epoch)"
    " values (%s, %s, 'noop', 'step', false, %s, 1, 1)"
)
CLIENTS = 16
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Insertions:
    """What pgbench did in one run; `rows` were counted in the table afterwards."""

    per_s: float
    rows: int


def create_table(dsn: str) -> None:
    """The tables that pgbench and the sequential INSERTs fill."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute(ROW_TABLE)


def run_pgbench(pgbench: Path, dsn: str, seconds: float) -> Insertions:
    """Single INSERTs of 16 clients with prepared statements for some whole seconds.

    Raises RuntimeError when pgbench fails, or when it claims another number of transactions than there are rows.
    """
    before = _count(dsn)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(INSERT.replace("%s", f"'{INSERT_VALUE}'") + ";\n")
        script.flush()
        arguments = ["-n", "-M", "prepared", "-c", str(CLIENTS), "-j", str(_THREADS), "-T", str(max(1, round(seconds)))]
        done = subprocess.run(
            [pgbench, *arguments, "-f", script.name, dsn], capture_output=True, text=True, check=False
        )
    rate = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    transactions = re.search(r"transactions actually processed: (\d+)", done.stdout)
    if done.returncode != 0 or rate is None or transactions is None:
        raise RuntimeError(f"pgbench ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    rows = _count(dsn) - before
    if rows != int(transactions[1]):
        raise RuntimeError(f"pgbench says {transactions[1]} transactions, the table has {rows} new rows")
    return Insertions(float(rate[1]), rows)


def _count(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select count(*) from limit_insert").fetchone()
        assert row is not None
        return int(row[0])
