"""A server of ours: what it offers, and the errors when it cannot be had."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL

import psycopg
import pytest

from duress.faults.postgres import BinariesNotFound, NoPlace, PortInUse, Server, ServerError, find_binaries


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that these tests may stop and crash."""
    with Server.start() as server:
        yield server


def one(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def test_it_answers_on_its_socket_and_on_loopback(server: Server) -> None:
    for dsn in (server.dsn(), server.dsn(tcp=True)):
        assert one(dsn, "select usesuper from pg_user where usename = current_user") is True
        assert one(dsn, "show server_version_num") == str(server.version)
    assert server.version // 10_000 == server.binaries.major >= 15


def test_its_settings_are_those_that_the_harness_relies_on(server: Server) -> None:
    promised = {
        "track_commit_timestamp": "on",
        "shared_preload_libraries": "pg_stat_statements",
        "max_connections": "200",
        "fsync": "off",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
    }
    assert {name: one(server.dsn(), f"show {name}") for name in promised} == promised


def test_no_other_user_of_the_machine_gets_in(server: Server) -> None:
    assert server.socket_directory.stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"host=127.0.0.1 port={server.port} user=duress dbname=postgres password=guess")


def test_a_clone_holds_what_its_template_held(server: Server) -> None:
    server.create_database("tëmplate 1")
    try:
        with psycopg.connect(server.dsn("tëmplate 1")) as connection:
            connection.execute("create table t as select 42 as answer")
        server.create_database("clone", template="tëmplate 1")
        assert one(server.dsn("clone"), "select answer from t") == 42
    finally:
        server.drop_database("clone")
        server.drop_database("tëmplate 1")
    assert one(server.dsn(), "select count(*) from pg_database where datname in ('clone', 'tëmplate 1')") == 0


def test_dropping_a_database_ends_its_sessions(server: Server) -> None:
    server.create_database("busy")
    with psycopg.connect(server.dsn("busy")) as session:
        server.drop_database("busy")
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    server.drop_database("busy")  # it may be gone already


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_what_was_committed_and_the_port(own: Server, mode: str) -> None:
    assert mode in ("fast", "immediate")
    port, postmaster = own.port, own.postmaster_pid
    name = f"kept_{mode}"
    with psycopg.connect(own.dsn()) as connection:
        connection.execute(f"create table {name} as select 1 as n".encode())
    own.restart("fast" if mode == "fast" else "immediate")
    assert one(own.dsn(), f"select n from {name}") == 1
    assert own.port == port and own.postmaster_pid != postmaster


def test_a_crash_loses_all_sessions_and_needs_recovery(own: Server) -> None:
    with psycopg.connect(own.dsn()) as session:
        session.execute("create table uncommitted (n int)")
        own.crash()
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(own.dsn())
    own.stop()  # stopped already: nothing to do
    own.restart()
    assert "automatic recovery in progress" in own.log_path.read_text()
    assert one(own.dsn(), "select to_regclass('uncommitted')") is None


def test_it_starts_again_after_its_postmaster_was_killed_under_a_busy_session(own: Server) -> None:
    session = psycopg.connect(own.dsn(), autocommit=True)
    busy = Path(f"/proc/{session.info.backend_pid}")
    session.pgconn.send_query(b"do $$ begin loop null; end loop; end $$")  # never looks for its postmaster
    os.kill(own.postmaster_pid, SIGKILL)
    own.restart()
    assert not busy.exists()
    session.close()
    assert one(own.dsn(), "select 1") == 1


def test_several_start_at_the_same_time() -> None:
    with ThreadPoolExecutor() as pool:
        servers = [future.result() for future in [pool.submit(Server.start) for _ in range(3)]]
    try:
        assert len({server.port for server in servers}) == 3
        assert {one(server.dsn(), "select 1") for server in servers} == {1}
    finally:
        for server in servers:
            server.close()
    assert not any(server.directory.exists() for server in servers)


@pytest.mark.parametrize("name", ["é '\\ " * 20, "a,b"], ids=["long", "comma"])
def test_a_path_that_no_socket_can_have(open_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    deep = open_folder / name
    deep.mkdir()
    monkeypatch.setenv("DURESS_POSTGRES_DIRECTORY", str(deep))
    with Server.start() as server:
        assert server.directory.parent == deep
        assert len(os.fsencode(server.socket_directory / f".s.PGSQL.{server.port}")) <= 107
        assert one(server.dsn(), "select 1") == one(server.dsn(tcp=True), "select 1") == 1
        socket_directory = server.socket_directory
    assert not list(deep.iterdir()) and not socket_directory.parent.exists()


def test_settings_are_taken_as_they_are() -> None:
    value = 'it\'s \\ $ "quoted"'
    with Server.start(settings={"duress.note": value, "max_connections": "20"}) as server:
        assert one(server.dsn(), "show duress.note") == value
        assert one(server.dsn(), "show max_connections") == "20"


def test_a_named_port_in_use_is_an_error_and_another_is_found_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"{port} .* in use"):
            Server.start(port=port)
        free = port + 1 if port < 65535 else port - 1
        offered = iter([port, free])
        monkeypatch.setattr("duress.faults.postgres.server.random.choice", lambda ports: next(offered))
        with Server.start() as server:
            assert server.port == free


def test_a_setting_that_postgresql_refuses_is_named() -> None:
    with pytest.raises(ServerError, match="no_such_setting"):
        Server.start(settings={"no_such_setting": "1"})


def test_fsync_goes_to_a_disk_and_is_on() -> None:
    with Server.start(fsync=True) as server:
        assert one(server.dsn(), "show fsync") == "on"
        assert not server.directory.is_relative_to("/dev/shm")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MB, less than a cluster takes."""
    with tempfile.TemporaryDirectory() as name:
        mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", name]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"may not mount here: {done.stderr.strip()}")
        yield Path(name)
        subprocess.run(["umount", name], check=True)


def test_a_disk_that_is_full_on_the_way_is_named(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duress.faults.postgres.server.needed_bytes", lambda fsync: 2**20)
    with pytest.raises(NoPlace, match=f"{small_disk} has no space .*DURESS_POSTGRES_DIRECTORY"):
        Server.start(directory=small_disk)
    assert not list(small_disk.iterdir())


def test_too_little_space_names_the_folder_the_need_and_the_remedy(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duress.faults.postgres.server.needed_bytes", lambda fsync: 2**60)
    message = rf"{open_folder}: \d+ MB free, {2**40} MB needed.*DURESS_POSTGRES_DIRECTORY"
    with pytest.raises(NoPlace, match=message):
        Server.start(directory=open_folder)
    with pytest.raises(NoPlace, match=rf"/dev/shm: .* needed; .*{tempfile.gettempdir()}: .* needed"):
        Server.start()


def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(NoPlace, match=r"nowhere: no such folder"):
        Server.start(directory=tmp_path / "nowhere")


def test_binaries_by_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_binaries("embedded").origin == "embedded"
    assert find_binaries("embedded").program("pgbench").exists()
    with pytest.raises(BinariesNotFound, match=r"no program 'postgres'.*DURESS_POSTGRES"):
        find_binaries(str(tmp_path))
    old = tmp_path / "bin"
    old.mkdir()
    for name in ("postgres", "initdb"):
        (old / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.2'\n")
        (old / name).chmod(0o755)
    monkeypatch.setenv("DURESS_POSTGRES", str(tmp_path))
    with pytest.raises(BinariesNotFound, match=r"14\.2 is older than 15"):
        find_binaries()


def test_the_systems_postgresql_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURESS_POSTGRES", "system")
    try:
        binaries = find_binaries()
    except BinariesNotFound as error:
        pytest.skip(str(error))
    with Server.start() as server:
        assert server.binaries == binaries
        assert one(server.dsn(), "show server_version_num") == str(server.version)
        server.restart("immediate")
        assert one(server.dsn(tcp=True), "select 1") == 1
