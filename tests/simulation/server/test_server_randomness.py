"""What is random in the server follows from the seed that a session was adopted with."""

from room import Room, row

from duress.simulator.server import Cell, Session

DRAWN = "select gen_random_uuid(), random(), (select count(*) from g tablesample bernoulli (10))"


def drawn(session: Session) -> list[tuple[str | None, ...]]:
    return [row(session, DRAWN) for _ in range(3)]


def test_the_same_seed_draws_the_same(room: Room) -> None:
    room.session().run("create table g as select generate_series(1, 1000)")
    one, same, other = drawn(room.session(5)), drawn(room.session(5)), drawn(room.session(6))
    assert one == same
    assert all(mine != theirs for mine, theirs in zip(one[0], other[0], strict=True))
    assert len({uuid for uuid, _, _ in one}) == 3


def test_a_kept_session_draws_as_the_seed_says_too(room: Room, cell: Cell) -> None:
    session = room.session(5)
    session.run("create table g as select generate_series(1, 1000)")
    drawn(session)
    both = []
    for _ in range(2):
        session.backend.release()
        session.backend = cell.adopt(session.pgconn, 7, fresh=False)
        both.append(drawn(session))
    assert both[0] == both[1]
