"""The server's log tells which sessions were lost, and which of them inside an open transaction."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import psycopg
import pytest

from duress.faults.postgres import (
    BinariesNotFound,
    LostSession,
    Server,
    count_lost_in_transaction,
    find_binaries,
    lost_sessions,
    read_log,
)

Session = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module", params=["embedded", "system"])
def logged(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each version that is here."""
    try:
        binaries = find_binaries(request.param)
    except BinariesNotFound as error:
        pytest.skip(str(error))
    with Server.start(binaries=binaries, settings={"client_connection_check_interval": "10ms"}) as server:
        yield server


def session(server: Server, name: str) -> Session:
    return psycopg.connect(server.dsn(), application_name=f"{name} app= cmd= | x", autocommit=True)


def lost(server: Server, pid: int) -> LostSession:
    """The entry of one session, as soon as it is there."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for entry in lost_sessions(server.log_path):
            if entry.pid == pid:
                return entry
        time.sleep(0.01)
    raise AssertionError(f"no word of {pid} in {server.log_path.read_text()}")


def vanish(connection: Session) -> int:
    """Close the socket without a goodbye, as SIGKILL does; the process id of the backend that was left."""
    pid = connection.info.backend_pid
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), connection.fileno())
    return pid


def test_a_client_that_vanishes_inside_a_transaction(logged: Server) -> None:
    for statement in ("select 1", "create table if not exists t (n int)"):
        connection = session(logged, "gone")
        connection.execute("begin")
        connection.execute(statement.encode())
        before = count_lost_in_transaction(logged.log_path)
        entry = lost(logged, vanish(connection))
        assert entry.in_transaction
        assert entry.how == "unexpected EOF on client connection with an open transaction"
        assert entry.application == "gone app= cmd= | x"
        assert count_lost_in_transaction(logged.log_path) == before + 1


def test_a_client_that_vanishes_during_a_statement(logged: Server) -> None:
    connection = session(logged, "busy")
    connection.pgconn.send_query(b"begin; select pg_sleep(60)")
    wait_until(logged, f"select wait_event = 'PgSleep' from pg_stat_activity where pid = {connection.info.backend_pid}")
    entry = lost(logged, vanish(connection))
    assert (entry.how, entry.in_transaction) == ("connection to client lost", True)


@pytest.mark.parametrize("inside", [True, False])
def test_a_terminated_session(logged: Server, inside: bool) -> None:
    connection = session(logged, "terminated")
    if inside:
        connection.execute("begin")
    with psycopg.connect(logged.dsn()) as other:
        other.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
    entry = lost(logged, connection.info.backend_pid)
    assert entry.how == "terminating connection due to administrator command"
    assert entry.in_transaction is inside


def test_an_idle_transaction_that_is_timed_out(logged: Server) -> None:
    connection = session(logged, "idle")
    connection.execute("set idle_in_transaction_session_timeout = 1")
    connection.execute("begin")
    entry = lost(logged, connection.info.backend_pid)
    assert entry.how == "terminating connection due to idle-in-transaction timeout" and entry.in_transaction


def test_a_killed_backend_is_lost_but_whether_in_a_transaction_is_not_known(logged: Server) -> None:
    connection = session(logged, "killed")
    connection.execute("begin")
    before = count_lost_in_transaction(logged.log_path)
    os.kill(connection.info.backend_pid, SIGKILL)
    entry = lost(logged, connection.info.backend_pid)
    assert "terminated by signal 9" in entry.how and entry.in_transaction is None
    assert count_lost_in_transaction(logged.log_path) == before
    logged.wait_ready()


def test_a_session_that_says_goodbye_is_not_lost(logged: Server) -> None:
    with session(logged, "polite") as connection:
        connection.execute("begin")
        connection.execute("rollback")
        polite = connection.info.backend_pid
    for gone in (polite, vanish(session(logged, "rude but idle"))):
        wait_until(logged, f"select not exists (select from pg_stat_activity where pid = {gone})")
        assert gone not in {entry.pid for entry in lost_sessions(logged.log_path)}
        assert any("disconnection" in line.message for line in read_log(logged.log_path) if line.pid == gone)


def test_a_line_that_is_cut_short_is_left_out(tmp_path: Path, logged: Server) -> None:
    whole = logged.log_path.read_bytes()
    log = tmp_path / "log"
    log.write_bytes(whole[:-10])
    assert len(list(read_log(log))) == len(list(read_log(logged.log_path))) - 1


def wait_until(server: Server, query: str) -> None:
    deadline = time.monotonic() + 10
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        while connection.execute(query.encode()).fetchone() != (True,):
            assert time.monotonic() < deadline, query
            time.sleep(0.005)
