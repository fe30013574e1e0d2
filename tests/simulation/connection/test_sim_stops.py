"""Every exchange of a process can be made to stand still before, inside and after, and a fault there means what it says."""

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import AsyncConnection, OperationalError

from duress.simulator import Run, Simulation
from duress.simulator.session import Session
from duress.simulator.stops import Stop, Where

INSERT = "insert into line (n) select coalesce(max(n), 0) + 1 from line"


async def writer(run: Run, said: list[str]) -> None:
    """Two inserts, each of which is sent once."""
    async with await AsyncConnection.connect(run.dsn, autocommit=True) as connection:
        for _ in range(2):
            await connection.execute(INSERT)
            said.append("done")


@pytest.fixture(scope="module")
def simulation() -> Any:
    with Simulation(setup="create table line (n int)") as made:
        yield made


def play(
    simulation: Simulation, where: Where, strike: Callable[[Run, Session], object], point: int = 0
) -> tuple[list[str], int, list[str]]:
    """Strike at the second insert; what the writer got to say, how many lines there are at the end, and where it stood."""
    stood: list[str] = []

    async def main(run: Run) -> tuple[list[str], int]:
        said: list[str] = []

        def reached(session: Session) -> None:
            stood.append(f"{type(session.standing).__name__} {getattr(session.standing, 'point', '')!s}".strip())
            strike(run, session)
            session.go_on()

        number = [one.number for one in await exchanges_of_writer(run) if "insert" in one.text][1]
        run.sessions.stops.add(Stop("struck", number, where, reached, point))
        process = run.process("struck", writer, run, said, may_fail=True)
        end = await process.ended()
        if end.how == "raised":
            said.append(type(end.error).__name__)
        await run.server.ready()
        async with await AsyncConnection.connect(run.dsn, autocommit=True) as connection:
            [(count,)] = await (await connection.execute("select count(*) from line")).fetchall()
        return said, count - 2

    said, lines = simulation.run(main, seed=3).result
    return said, lines, stood


async def exchanges_of_writer(run: Run) -> list[Any]:
    """What an undisturbed writer exchanges."""
    process = run.process("calm", writer, run, [])
    await process.ended()
    return [one for one in run.sessions.stops.exchanges if one.process == "calm"]


def kill(run: Run, session: Session) -> None:
    next(process for process in run.processes if process.name == session.process).kill()


def drop(run: Run, session: Session) -> None:
    assert session.link is not None
    session.link.drop("rst")


def terminate(run: Run, session: Session) -> None:
    session.terminate()


def nothing(run: Run, session: Session) -> None:
    pass


LOST = OperationalError.__name__


@pytest.mark.parametrize(
    ("where", "strike", "said", "lines"),
    [
        ("before", nothing, ["done", "done"], 2),
        ("inside", nothing, ["done", "done"], 2),
        ("after", nothing, ["done", "done"], 2),
        ("before", kill, ["done"], 1),
        ("after", kill, ["done"], 2),
        ("before", drop, ["done", LOST], 1),
        ("after", drop, ["done", LOST], 2),
        ("before", terminate, ["done", "AdminShutdown"], 1),
        ("inside", terminate, ["done", "AdminShutdown"], 1),
    ],
)
def test_a_fault_before_an_exchange_finds_nothing_done_and_one_after_it_all(
    simulation: Simulation, where: Where, strike: Callable[[Run, Session], object], said: list[str], lines: int
) -> None:
    assert play(simulation, where, strike, 1 if where == "inside" else 0)[:2] == (said, lines)


def test_every_point_inside_is_reached_and_they_are_as_many_as_were_counted(simulation: Simulation) -> None:
    async def main(run: Run) -> int:
        return [one.points for one in await exchanges_of_writer(run) if "insert" in one.text][1]

    points = simulation.run(main, seed=3).result
    stood = [play(simulation, "inside", nothing, point)[2] for point in range(1, points + 2)]
    assert all(len(one) == 1 and one[0].startswith("Held") for one in stood[:-1])
    assert stood[-1] == [], "there is no further point"
    assert [one[0] for one in stood[:-1]][-2:] == ["Held 4", "Held 8"], "before the commit record, and after it"


def test_what_is_held_before_the_commit_record_is_not_there_and_after_it_is(simulation: Simulation) -> None:
    """A backend that is killed there takes the server down; what was committed stays."""
    lines: list[int] = []
    for where in ("Held 4", "Held 8"):
        for point in range(1, 20):

            def crash(run: Run, session: Session, where: str = where) -> None:
                if f"Held {session.standing.point!s}" == where:  # type: ignore[union-attr]
                    run.server.kill(session)

            said, count, stood = play(simulation, "inside", crash, point)
            if stood == [where]:
                lines.append(count)
                assert said == ["done", LOST]
                break
    assert lines == [1, 2]
