"""PostgreSQL's own timeouts and sleeps run on virtual time: days pass in milliseconds, and the errors are its own."""

import pytest
from room import Room, go_off, row, rows, sqlstates, until_answered

from duress.simulator.server import EPOCH_US, Blocked, HarnessError, Session, WaitClass

HOUR_US = 3_600_000_000


@pytest.fixture
def held(room: Room) -> Session:
    """A session that holds the lock of row 1 of table t, in an open transaction."""
    session = room.session()
    session.run("create table t (id int primary key, v int); insert into t values (1, 0), (2, 0)")
    session.run("begin; update t set v = 1 where id = 1")
    return session


def test_the_clock_stands_still_until_it_is_moved(room: Room) -> None:
    session = room.session()
    asked = "select now() = clock_timestamp(), extract(epoch from clock_timestamp())::text"
    assert row(session, asked) == ("t", "1900000000.000000")
    room.cell.set_now(EPOCH_US + 86_400_000_001)
    assert row(session, asked) == ("t", "1900086400.000001")


def test_a_day_of_sleep_is_a_day_of_virtual_time(room: Room) -> None:
    session = room.session()
    outcome = session.send("select now()::text, pg_sleep(86400), clock_timestamp()::text")
    assert outcome == Blocked(WaitClass.TIMEOUT, "PgSleep", EPOCH_US + 600_000_000)  # it sleeps ten minutes at a time
    (reply,) = until_answered(room, session, outcome)
    assert reply.rows == (("2030-03-17 17:46:40+00", "", "2030-03-18 17:46:40+00"),)


def test_statement_timeout(room: Room, held: Session) -> None:
    session = room.session()
    session.run("set statement_timeout = '1h'")
    outcome = until_answered(room, session, session.send("update t set v = 2 where id = 1"))
    assert sqlstates(outcome) == ["57014"]
    assert room.cell.now_us == EPOCH_US + HOUR_US


def test_lock_timeout(room: Room, held: Session) -> None:
    session = room.session()
    session.run("set lock_timeout = '5s'")
    blocked = session.send("update t set v = 2 where id = 1")
    assert blocked == Blocked(WaitClass.LOCK, "transactionid", None)
    # At 1 s PostgreSQL looks for a deadlock, finds none and waits on.
    assert go_off(room, session) == blocked
    assert room.cell.now_us == EPOCH_US + 1_000_000
    assert sqlstates(go_off(room, session)) == ["55P03"]
    assert room.cell.now_us == EPOCH_US + 5_000_000


def test_idle_in_transaction_timeout_ends_an_idle_session(room: Room, held: Session) -> None:
    held.run("commit; set idle_in_transaction_session_timeout = '10min'; begin; update t set v = 7 where id = 1")
    waiter = room.session()
    assert isinstance(waiter.send("select v from t where id = 1 for update"), Blocked)
    # The timer of the authentication long done comes first, to no effect: PostgreSQL lets such timers run out.
    for due in (EPOCH_US + 60_000_000, EPOCH_US + 600_000_000):
        assert held.backend.timer_us == due and held.backend.idle
        room.cell.set_now(due)
        held.backend.deliver_timer()
    assert held.backend.state == "gone"
    # Its locks are free before we are told that it is gone: the waiter goes on with what was there before.
    assert waiter.backend.woken
    (reply,) = waiter.grant()  # type: ignore[misc]
    assert reply.rows == (("1",),)
    assert sqlstates(held.send("select 1")) == ["25P03"]


@pytest.mark.parametrize("victim", [0, 1])
def test_the_victim_of_a_deadlock_is_chosen(room: Room, held: Session, victim: int) -> None:
    other = room.session()
    other.run("begin; update t set v = 2 where id = 2")
    pair = (held, other)
    assert isinstance(held.send("update t set v = 1 where id = 2"), Blocked)
    assert isinstance(other.send("update t set v = 2 where id = 1"), Blocked)
    assert sqlstates(go_off(room, pair[victim])) == ["40P01"]
    survivor = pair[1 - victim]
    pair[victim].run("rollback")
    assert survivor.backend.woken
    assert sqlstates(survivor.grant()) == [""]
    survivor.run("commit")
    assert rows(other, "select v from t order by id") == [(str(2 - victim),)] * 2


def test_a_timer_cannot_be_delivered_before_it_is_due(room: Room, held: Session) -> None:
    session = room.session()
    session.send("update t set v = 2 where id = 1")
    with pytest.raises(HarnessError, match="set the clock first"):
        session.backend.deliver_timer()


def test_a_sleep_is_not_over_before_its_time(room: Room) -> None:
    session = room.session()
    session.send("select pg_sleep(1)")
    room.cell.set_now(EPOCH_US + 999_999)
    with pytest.raises(HarnessError, match="set the clock first"):
        session.grant(timed_out=True)
    room.cell.set_now(EPOCH_US + 1_000_000)
    assert sqlstates(session.grant(timed_out=True)) == [""]


def test_nobody_goes_on_unless_woken(room: Room, held: Session) -> None:
    session = room.session()
    session.send("update t set v = 2 where id = 1")
    assert not session.backend.woken
    with pytest.raises(HarnessError, match="nobody has woken it"):
        session.grant()
    held.run("commit")
    assert session.backend.woken
    assert sqlstates(session.grant()) == [""]
    with pytest.raises(HarnessError, match="it is running"):
        session.grant()


def test_waiters_go_on_in_the_order_that_we_choose(room: Room, held: Session) -> None:
    """Two wait for one key and are woken together; whoever is let go first has it, and the other the error."""
    waiters = [room.session() for _ in range(4)]
    held.run("insert into t values (9, 0)")
    for waiter in waiters:
        assert isinstance(waiter.send("insert into t values (9, 1)"), Blocked)
    held.run("rollback")
    assert [waiter.backend.woken for waiter in waiters] == [True] * 4
    assert [sqlstates(waiter.grant()) for waiter in reversed(waiters)] == [[""], ["23505"], ["23505"], ["23505"]]


def test_the_kernel_has_no_timer_of_a_session_from_its_registration_on(room: Room) -> None:
    """The one that was set for the authentication runs on in every session; from now on it is ours to deliver."""
    sessions = [room.session() for _ in range(5)]
    assert [session.backend.timer_us for session in sessions] == [EPOCH_US + 60_000_000] * 5


def test_a_kept_session_begins_the_next_run_without_timers(room: Room, held: Session) -> None:
    """PostgreSQL sets no timer while it believes an earlier one pending: all must have gone off."""
    session = room.session()
    session.run("set lock_timeout = '5s'")
    session.send("update t set v = 2 where id = 1")
    held.run("commit")
    session.grant()
    assert session.backend.timer_us
    room.cell.begin()
    assert [backend.timer_us for backend in room.cell.backends] == [None, None]
    assert room.cell.now_us == EPOCH_US
    held.run("begin; update t set v = 3 where id = 1")
    session.send("update t set v = 2 where id = 1")
    assert session.backend.timer_us == EPOCH_US + 1_000_000
