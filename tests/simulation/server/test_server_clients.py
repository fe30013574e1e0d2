"""Whatever a client sends, it is known when its backend waits for it: for more, or for it to read."""

import os
import signal

import pytest
from psycopg import pq
from room import Room, row

from duress.simulator.server import Gone, HarnessError, Ready, Session
from duress.simulator.server import backend as backend_module

MEGABYTE = 1 << 20


def raw(session: Session) -> tuple[pq.abc.PGconn, int]:
    session.pgconn.nonblocking = 1
    return session.pgconn, session.pgconn.socket


def test_a_backend_that_cannot_send_all_waits_for_us_to_read(room: Room) -> None:
    session = room.session()
    pgconn, fileno = raw(session)
    pgconn.send_query(b"select repeat('x', 5000000)")
    assert session.backend.wait(fileno) == Ready(sending=True)
    seen = 0
    while session.backend.wait(fileno) == Ready(sending=True):
        pgconn.consume_input()
        seen += 1
    assert seen > 1
    while pgconn.is_busy():
        pgconn.consume_input()
    result = pgconn.get_result()
    assert result and len(result.get_value(0, 0) or b"") == 5_000_000


def test_copy_waits_for_every_piece(room: Room) -> None:
    session = room.session()
    session.run("create table t (v int)")
    pgconn, fileno = raw(session)
    pgconn.send_query(b"copy t from stdin")
    assert session.backend.wait(fileno) == Ready()
    pgconn.consume_input()
    result = pgconn.get_result()
    assert result and result.status == pq.ExecStatus.COPY_IN
    for number in range(3):
        pgconn.put_copy_data(b"%d\n" % number)
        while pgconn.flush():
            pass
        assert session.backend.wait(fileno) == Ready()
    pgconn.put_copy_end()
    while pgconn.flush():
        pass
    assert session.backend.wait(fileno) == Ready()
    pgconn.consume_input()
    while pgconn.get_result():
        pass
    assert row(session, "select count(*) from t") == ("3",)


def test_a_long_request_is_taken_piece_by_piece(room: Room) -> None:
    session = room.session()
    pgconn, fileno = raw(session)
    pgconn.send_query(b"select length('%s')" % (b"x" * 4 * MEGABYTE))
    pieces = 0
    while pgconn.flush():
        assert session.backend.wait(fileno, writing=True) in (Ready(writable=True), Ready())
        pieces += 1
    assert pieces > 1
    assert session.backend.wait(fileno) == Ready()
    pgconn.consume_input()
    assert not pgconn.is_busy()


def test_a_busy_backend_does_not_keep_us_from_sending_more(room: Room) -> None:
    session = room.session()
    pgconn, fileno = raw(session)
    pgconn.send_query(b"select count(*) from generate_series(1, 1000000)")
    assert session.backend.wait(fileno, writing=True) == Ready(writable=True)
    assert session.backend.wait(fileno) == Ready()


@pytest.mark.parametrize("closes", [False, True])
def test_what_it_has_not_yet_taken_counts_although_it_seems_to_wait(
    room: Room, monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    """A backend that is slow to wake up (here: stopped) waits for its client still, but not for long."""
    monkeypatch.setattr(backend_module, "DEADLINE_S", 0.05)
    session = room.session()
    pgconn, fileno = raw(session)
    os.kill(session.backend.pid, signal.SIGSTOP)
    try:
        pgconn.finish() if closes else pgconn.send_query(b"select 1")
        with pytest.raises(HarnessError, match="did not stop or answer"):
            session.backend.wait(-1 if closes else fileno)
    finally:
        os.kill(session.backend.pid, signal.SIGCONT)
    monkeypatch.undo()
    assert session.backend.wait(-1 if closes else fileno) == (Gone() if closes else Ready())


def test_a_pipeline_without_a_sync_has_no_reply_and_is_still_over(room: Room) -> None:
    session = room.session()
    session.run("create table t (v int)")
    pgconn, fileno = raw(session)
    before = session.backend.points
    pgconn.enter_pipeline_mode()
    pgconn.send_query_params(b"insert into t values (1)", None)
    pgconn.flush()
    assert session.backend.wait(fileno) == Ready()
    assert session.backend.points > before  # it has been run, though nothing has been said
    pgconn.pipeline_sync()
    pgconn.flush()
    assert session.backend.wait(fileno) == Ready()


def test_a_client_that_closes_is_seen_to_go(room: Room) -> None:
    session = room.session()
    session.pgconn.finish()
    assert session.backend.wait(-1) == Gone()
    assert session.backend.state == "gone"
    session.close()
    room.sessions.remove(session)


def test_a_blocked_backend_outlives_its_client_and_may_still_commit(room: Room) -> None:
    holder, orphan, other = room.three()
    holder.run("create table t (id int primary key, v int); insert into t values (1, 0)")
    holder.run("begin; update t set v = 1")
    orphan.send("update t set v = v + 10")
    orphan.pgconn.finish()
    holder.run("commit")
    assert orphan.backend.woken
    orphan.backend.grant()
    assert orphan.backend.wait(-1) == Gone()
    assert row(other, "select v from t") == ("11",)
