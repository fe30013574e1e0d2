"""NOTIFY, cancel and terminate are exact: when the sender has its answer, it is known who was told, and settled."""

from room import Room, row, sqlstates

from duress.simulator.server import Blocked, Held

TIMES = 100


def test_every_notification_arrives_when_its_sender_is_answered(room: Room) -> None:
    sender, listener, deaf = room.three()
    listener.run("listen news")
    for number in range(TIMES):
        signals, attention = listener.backend.signals, room.cell.attention
        sender.run(f"notify news, '{number}'")
        assert listener.backend.signals > signals
        assert room.cell.attention > attention
        room.cell.settle()
        assert listener.backend.idle and not listener.backend.unsettled
        assert listener.notifications() == [("news", str(number))]
    assert deaf.backend.signals == 0


def test_a_listener_in_a_transaction_hears_at_its_end(room: Room) -> None:
    sender, listener, _ = room.three()
    listener.run("listen news")
    listener.run("begin")
    sender.run("notify news")
    room.cell.settle()
    assert listener.notifications() == []
    listener.run("commit")
    assert listener.notifications() == [("news", "")]


def test_every_cancel_hits_the_blocked_statement(room: Room) -> None:
    holder, waiter, other = room.three()
    holder.run("create table t (v int); insert into t values (0)")
    holder.run("begin; update t set v = 1")
    for _ in range(TIMES):
        assert isinstance(waiter.send("update t set v = 2"), Blocked)
        assert not waiter.backend.woken
        other.run(f"select pg_cancel_backend({waiter.backend.pid})")
        room.cell.settle()
        assert waiter.backend.woken
        assert sqlstates(waiter.grant()) == ["57014"]


def test_a_cancel_of_an_idle_session_is_nothing(room: Room) -> None:
    one, other, _ = room.three()
    for _ in range(TIMES):
        other.run(f"select pg_cancel_backend({one.backend.pid})")
        room.cell.settle()
        assert row(one, "select 1") == ("1",)


def test_a_cancel_of_a_held_statement_waits_for_its_release(room: Room) -> None:
    one, other, _ = room.three()
    one.backend.arm(1)
    assert isinstance(one.send("select pg_sleep(1)"), Held)
    other.run(f"select pg_cancel_backend({one.backend.pid})")
    room.cell.settle()
    assert one.backend.state == "held"
    assert sqlstates(one.grant()) == ["57014"]


def test_a_terminated_session_has_released_its_locks_when_it_is_gone(room: Room) -> None:
    admin, waiter, _ = room.three()
    admin.run("create table t (id int primary key, v int); insert into t values (1, 0)")
    for _ in range(TIMES // 2):
        victim = room.session()
        victim.run("begin; update t set v = v + 1")
        assert isinstance(waiter.send("update t set v = v"), Blocked)
        admin.run(f"select pg_terminate_backend({victim.backend.pid})")
        room.cell.settle()
        assert victim.backend.state == "gone"
        assert waiter.backend.woken
        assert sqlstates(waiter.grant()) == [""]
        assert sqlstates(victim.send("select 1")) == ["57P01"]
        room.sessions.remove(victim)
        victim.close()
    assert row(admin, "select v from t") == ("0",)
