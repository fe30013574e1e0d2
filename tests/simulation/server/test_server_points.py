"""A backend is held inside statements and around COMMIT, others run meanwhile, and it may be killed there."""

import pytest
from room import Room, row, rows, sqlstates

from duress.simulator.server import Blocked, Cell, HarnessError, Held, Point, Session

CLAIM = """
create table job (id int primary key, state text not null);
insert into job select g, 'new' from generate_series(1, 3) g;
create function claim() returns int language plpgsql as $$
declare running int; mine int;
begin
    select count(*) into running from job where state = 'running';
    if running >= 1 then return null; end if;
    update job set state = 'running'
    where id = (select id from job where state = 'new' order by id for update skip locked limit 1) returning id into mine;
    return mine;
end $$
"""


def claims(room: Room, at: int) -> tuple[str | None, str | None] | None:
    """What two callers of claim() are given when the first is held at its point number `at`; None: it has fewer."""
    one, other = room.session(), room.session()
    one.run("update job set state = 'new'")
    one.backend.arm(at)
    outcome = one.send("select claim()")
    if not isinstance(outcome, Held):
        return None
    theirs = row(other, "select claim()")[0]
    (reply,) = one.grant()  # type: ignore[misc]
    return reply.rows[0][0], theirs


def test_a_race_inside_one_function_is_found(room: Room) -> None:
    """Count, then update: no two statements of any client show it, only a hold between snapshot and action."""
    room.session().run(CLAIM)
    given = [claims(room, at) for at in range(1, 9)]
    held = [pair for pair in given if pair]
    both = [pair for pair in held if pair[0] and pair[1]]
    assert len(held) == 8 and len(both) >= 3  # at other points one of the two is told that somebody runs already
    assert all(pair[0] != pair[1] for pair in both)


def test_without_a_hold_the_function_keeps_its_promise(room: Room) -> None:
    one, other = room.session(), room.session()
    one.run(CLAIM)
    assert (row(one, "select claim()"), row(other, "select claim()")) == (("1",), (None,))


def test_statements_of_triggers_and_foreign_keys_are_points(room: Room) -> None:
    session = room.session()
    session.run("create table parent (id int primary key); create table child (id int references parent (id))")
    session.run("insert into parent values (1)")
    before = session.backend.points
    session.run("insert into child values (1)")
    plain = session.backend.points - before
    session.run("alter table child drop constraint child_id_fkey")
    before = session.backend.points
    session.run("insert into child values (1)")
    assert plain - (session.backend.points - before) == 2  # the start and the end of the look at the parent


def test_only_points_of_the_kinds_asked_for_count(room: Room) -> None:
    session = room.session()
    session.run("create table t (id int)")
    session.backend.arm(2, Point.STATEMENT_START)
    assert session.send("insert into t values (1); insert into t values (2)") == Held(Point.STATEMENT_START)
    assert session.backend.armed == 0
    assert sqlstates(session.grant()) == ["", ""]
    session.backend.arm(1, Point.ABORTED)
    assert session.send("insert into t values (3); select 1/0") == Held(Point.ABORTED)
    session.grant()
    session.backend.arm(None)
    assert rows(session, "select id from t order by id") == [("1",), ("2",)]
    with pytest.raises(HarnessError, match="point number 0"):
        session.backend.arm(0)


def test_before_commit_nobody_sees_it_and_after_it_everybody_does_but_its_locks_stay(room: Room) -> None:
    one, other, third = room.three()
    one.run("create table t (id int primary key, v int); insert into t values (1, 0)")
    one.backend.arm(1, Point.BEFORE_COMMIT)
    assert one.send("select pg_advisory_xact_lock(1); update t set v = 1") == Held(Point.BEFORE_COMMIT)
    assert row(other, "select v from t") == ("0",)
    one.backend.arm(1, Point.COMMITTED)
    assert one.grant() == Held(Point.COMMITTED)
    assert row(other, "select v from t") == ("1",)
    assert sqlstates(other.send("update t set v = v + 10")) == [""]  # a row is free when its transaction is over
    assert isinstance(third.send("select pg_advisory_lock(1)"), Blocked)
    assert not third.backend.woken
    assert sqlstates(one.grant()) == ["", ""]
    assert third.backend.woken
    assert sqlstates(third.grant()) == [""]
    assert row(other, "select v from t") == ("11",)


@pytest.mark.parametrize(
    ("point", "survives"),
    [
        (Point.STATEMENT_START, False),
        (Point.STATEMENT_END, False),
        (Point.BEFORE_COMMIT, False),
        (Point.COMMITTED, True),
    ],
)
def test_a_backend_killed_at_a_point(room: Room, point: Point, survives: bool) -> None:
    """The client learns the same whichever way it went: a lost connection. Only the table tells."""
    session, bystander = room.session(), room.session()
    session.run("create table t (id int)")
    session.backend.arm(1, point)
    assert session.send("insert into t values (1)") == Held(point)
    session.backend.kill()
    assert sqlstates(session.proceed()) == ["lost"]
    room.cell.recover()
    assert sqlstates(bystander.send("select 1"))[0] in ("57P02", "lost")
    room.sessions = []
    assert rows(room.session(), "select id from t") == ([("1",)] if survives else [])


def test_a_crash_is_over_when_recovery_is_said_to_be(own: Cell) -> None:
    """Though the killed backend was the only one, and the server still takes connections before it notices."""
    for number in range(5):
        session = own.open_session()
        if not number:
            session.run("create table t (id int)")
        session.backend.arm(1, Point.COMMITTED)
        assert session.send(f"insert into t values ({number})") == Held(Point.COMMITTED)
        session.backend.kill()
        own.recover()
        assert own.backends == ()
        again = own.open_session()
        assert row(again, "select count(*) from t") == (str(number + 1),)
        again.close()


def test_a_held_backend_can_be_terminated_and_its_slot_used_again(room: Room) -> None:
    session = room.session()
    session.backend.arm(1)
    assert isinstance(session.send("select 1"), Held)
    session.close()
    assert session.backend not in room.cell.backends
    again: Session = room.session()
    assert row(again, "select 1") == ("1",)
