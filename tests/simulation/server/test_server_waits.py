"""Waits that are for no lock: safe snapshots, barriers, the end of another backend, and those that end by themselves."""

from room import Room, row, sqlstates

from duress.simulator.server import Blocked, Event, Held, Outcome, Session, WaitClass

TIMES = 20


def go_on(room: Room, session: Session) -> Outcome | Event:
    """Let a timed wait run out."""
    until = session.backend.wait_until_us
    assert until is not None
    room.cell.set_now(until)
    return session.grant(timed_out=True)


def test_a_deferrable_transaction_waits_for_a_safe_snapshot(room: Room) -> None:
    writer, reader, _ = room.three()
    writer.run("create table t (v int)")
    writer.run("begin isolation level serializable; insert into t values (1)")
    reader.run("begin isolation level serializable read only deferrable")
    assert reader.send("select count(*) from t") == Blocked(WaitClass.IPC, "SafeSnapshot", None)
    assert not reader.backend.woken
    writer.run("commit")
    assert reader.backend.woken
    assert sqlstates(reader.grant()) == [""]


def test_the_end_of_another_backend_is_seen_at_the_first_look(room: Room) -> None:
    """Though it may not be buried yet, and the kernel would say that it lives."""
    one, _, _ = room.three()
    for _ in range(TIMES):
        victim = room.session()
        outcome = one.send(f"select pg_terminate_backend({victim.backend.pid}, 5000)")
        assert isinstance(outcome, Blocked) and outcome.wait_event == "BackendTermination"
        room.cell.settle()
        assert victim.backend.state == "gone"
        (reply,) = go_on(room, one)  # type: ignore[misc]
        assert reply.rows == (("t",),)


def test_a_held_backend_does_not_end_in_the_time_given(room: Room) -> None:
    one, victim, _ = room.three()
    victim.backend.arm(1)
    assert isinstance(victim.send("select 1"), Held)
    outcome = one.send(f"select pg_terminate_backend({victim.backend.pid}, 250)")
    waits = 0
    while not isinstance(outcome, tuple):
        waits += 1
        room.cell.settle()
        outcome = go_on(room, one)
    assert waits == 3 and outcome[0].rows == (("f",),)
    assert sqlstates(victim.grant()) == ["57P01"]


def test_dropping_a_database_waits_for_who_is_held_or_blocked_and_no_longer(room: Room) -> None:
    one, held, blocked = room.three()
    one.run("select pg_advisory_lock(1)")
    assert isinstance(blocked.send("select pg_advisory_lock(1)"), Blocked)
    for _ in range(TIMES):
        room.cell.create_database("dropped")
        held.backend.arm(1)
        assert isinstance(held.send("select 1"), Held)
        outcome = one.send("drop database dropped")
        assert isinstance(outcome, Blocked) and outcome.wait_event == "ProcSignalBarrier"
        assert blocked.backend.woken  # to take part in the barrier
        assert blocked.grant() == Blocked(WaitClass.LOCK, "advisory", None)
        assert sqlstates(held.grant()) == [""]
        while not isinstance(outcome, tuple):
            room.cell.settle()
            assert one.backend.woken
            outcome = one.grant()
        assert sqlstates(outcome) == [""]
        assert row(held, "select count(*) from pg_database where datname = 'dropped'") == ("0",)


def test_what_background_processes_do_is_not_waited_for(room: Room) -> None:
    """A checkpoint and a copy of a database run in real time, and no event shows."""
    session = room.session()
    session.run("checkpoint")
    session.run("create database copied strategy file_copy")
    session.run("drop database copied")
