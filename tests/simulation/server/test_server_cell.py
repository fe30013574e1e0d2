"""The cell: its databases, its faults, and the errors when something cannot be."""

import os
from pathlib import Path

import pytest
from room import Room, row, rows, sqlstates

from duress.faults.postgres.guardian import parents_of_all
from duress.simulator.server import EPOCH_US, Blocked, Cell, HarnessError, Held, SimUnavailable, processes
from duress.simulator.server import backend as backend_module


def states(postmaster: int) -> set[str]:
    """The states of the postmaster and its children, as /proc has them: T is stopped."""
    pids = [postmaster, *(pid for pid, parent in parents_of_all().items() if parent == postmaster)]
    return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids}


def test_a_reset_takes_a_database_back_to_its_start(room: Room) -> None:
    session = room.session()
    session.run("create schema s; create table s.a (id serial primary key, v int); create table kept (v int)")
    session.run("create table b (a int references s.a (id), id int generated always as identity); create sequence free")
    fill = "insert into s.a (v) values (1); insert into kept values (1); insert into b (a) values (1); select nextval('free')"
    look = "select a.ctid, a.id, b.id, nextval('free') from s.a a join b on b.a = a.id"
    session.run(fill)
    before = rows(session, look)
    for _ in range(2):
        room.cell.reset(room.database, keep=["public.kept"])
        session.run(fill)
        assert rows(session, look) == before
    assert rows(session, "select count(*) from kept") == [("3",)]


def test_a_reset_that_a_lock_is_in_the_way_of_says_so(room: Room) -> None:
    session = room.session()
    session.run("create table t (v int)")
    session.run("begin; insert into t values (1)")
    with pytest.raises(HarnessError, match=r"truncate .*stopped: backend 0 .* blocked, for relation"):
        room.cell.reset(room.database)
    session.run("rollback")
    room.cell.reset(room.database)


def test_a_clone_holds_what_its_template_held_and_is_its_own(room: Room) -> None:
    session = room.session()
    session.run("create table t as select 1 as v")
    session.close()
    name = room.cell.fresh_database(room.database)
    clone = room.cell.open_session(name)
    room.sessions.append(clone)
    assert row(clone, "table t") == ("1",)
    clone.close()
    room.cell.drop_database(name)


def test_a_paused_server_goes_on_as_if_nothing_had_been(room: Room) -> None:
    holder, waiter, busy = room.three()
    holder.run("select pg_advisory_lock(1)")
    assert isinstance(waiter.send("select pg_advisory_lock(1)"), Blocked)
    busy.pgconn.send_query(b"select count(*) from generate_series(1, 1000000000)")
    postmaster = room.cell.server.postmaster_pid
    for _ in range(20):
        room.cell.pause()
        stopped = states(postmaster)
        room.cell.resume()
        assert stopped == {"T"}
        assert row(holder, "select 1") == ("1",)
        assert not waiter.backend.woken  # though the kernel has interrupted its wait
    assert "T" not in states(postmaster)
    holder.run("select pg_advisory_unlock(1)")
    assert waiter.backend.woken
    assert sqlstates(waiter.grant()) == [""]


def test_a_process_that_does_not_stop_is_named(own: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "DEADLINE_S", 0.05)
    monkeypatch.setattr(processes, "_is_stopped", lambda pid: pid != own.server.postmaster_pid)
    with pytest.raises(HarnessError, match=rf"processes \[{own.server.postmaster_pid}\] of the server did not stop"):
        own.pause()
    own.resume()
    assert row(own.open_session(), "select 1") == ("1",)


def test_a_crashed_server_recovers_what_was_committed(own: Cell) -> None:
    one, other = own.open_session(), own.open_session()
    one.run("create table t (v int); insert into t values (1)")
    other.run("begin; insert into t values (2)")
    one.backend.arm(1)
    assert isinstance(one.send("insert into t values (3)"), Held)
    own.crash()
    assert own.backends == ()
    own.restart()
    assert rows(own.open_session(), "table t") == [("1",)]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_ends_who_is_held(own: Cell, mode: str) -> None:
    own.open_session().run("create table t (v int)")
    for _ in range(10):
        session = own.open_session()
        session.backend.arm(1)
        assert isinstance(session.send("insert into t values (3)"), Held)
    own.restart(mode)  # type: ignore[arg-type]
    again = own.open_session()
    assert rows(again, "table t") == []
    assert row(again, "select now() - '2030-03-17 17:46:40Z' < '1s'") == ("t",)


def test_a_server_that_has_not_crashed_has_nothing_to_recover_from(own: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "DEADLINE_S", 0.05)
    with pytest.raises(HarnessError, match=r"did not crash in 0\.05 s"):
        own.recover()


def test_a_backend_that_does_not_stop_is_named_with_all_others(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "DEADLINE_S", 0.05)
    holder, waiter, busy = room.three()
    holder.run("select pg_advisory_lock(1)")
    waiter.send("select pg_advisory_lock(1)")
    with pytest.raises(HarnessError) as caught:
        busy.send("select count(*) from generate_series(1, 100000000)")
    assert f"backend 3 (pid {busy.backend.pid}) did not stop or answer in 0.05 s" in str(caught.value)
    assert "running, waiting for its client" in str(caught.value)
    assert "blocked, for advisory" in str(caught.value)


def test_a_run_does_not_begin_while_somebody_is_stopped(room: Room) -> None:
    session = room.session()
    session.backend.arm(1)
    session.send("select 1")
    with pytest.raises(HarnessError, match=r"backend 1 .* held, at STATEMENT_START"):
        room.cell.begin()


def test_numbers_are_given_in_the_order_of_registration(room: Room) -> None:
    sessions = [room.session() for _ in range(3)]
    sessions[1].close()
    assert [backend.number for backend in room.cell.backends] == [1, 3]
    room.cell.begin()
    assert [backend.number for backend in room.cell.backends] == [1, 2]
    assert room.session().backend.number == 3
    assert room.cell.now_us == EPOCH_US


def test_the_server_shares_our_core(cell: Cell) -> None:
    ours = os.sched_getaffinity(0)
    assert len(ours) == 1
    assert os.sched_getaffinity(cell.server.postmaster_pid) == ours


def test_a_server_that_does_not_load_the_library_is_refused(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "control-empty.so"
    empty.write_bytes(b"")
    monkeypatch.setattr("duress.simulator.server.cell.library_path", lambda: empty)
    before = os.sched_getaffinity(0)
    with pytest.raises(SimUnavailable, match="the loader did not load it"):
        Cell.start(binaries=cell.server.binaries)
    assert os.sched_getaffinity(0) == before


def test_slots_are_given_back_and_running_out_of_them_is_said(own: Cell) -> None:
    del own.page.slots[2:]
    for _ in range(3):
        sessions = [own.open_session() for _ in range(2)]
        with pytest.raises(HarnessError, match="all 2 slots are taken"):
            own.open_session()
        for session in sessions:
            session.close()
