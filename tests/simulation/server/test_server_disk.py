"""Writes and syncs of a backend fail when they are told to, as on a full or a broken disk."""

from errno import EIO, ENOSPC

from room import Room, row, sqlstates

from duress.simulator.server import Cell, Io

GROW = "insert into t select repeat('x', 1000) from generate_series(1, 200)"


def test_a_full_disk_fails_the_statement_and_nothing_else(room: Room) -> None:
    session = room.session()
    session.run("create table t (v text)")
    session.backend.fail_io(ENOSPC, after=3)
    assert sqlstates(session.send(GROW)) == ["53100"]
    assert session.backend.io_failed == 1
    assert row(session, "select count(*) from t") == ("0",)
    session.run(GROW)
    assert row(session, "select count(*) from t") == ("200",)
    assert session.backend.io_failed == 1


def test_a_failing_sync_of_the_log_takes_the_server_down(cell: Cell) -> None:
    """PostgreSQL does not trust a disk that failed once: PANIC, and recovery from what it had."""
    with Cell.start(binaries=cell.server.binaries, settings={"fsync": "on"}) as cell:
        session, other = cell.open_session(), cell.open_session()
        session.run("create table t (v text)")
        session.backend.fail_io(EIO, kinds=Io.WAL_SYNC)
        assert sqlstates(session.send("insert into t values ('lost or not, nobody knows')")) in (
            ["XX000"],
            ["58030"],
            ["lost"],
        )
        cell.recover()
        assert sqlstates(other.send("select 1"))[0] in ("57P02", "lost")
        assert int(row(cell.open_session(), "select count(*) from t")[0] or 9) <= 1
