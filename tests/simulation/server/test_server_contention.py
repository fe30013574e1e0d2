"""Six sessions that get in each other's way: every run follows from its seed, whatever ran before it on the same server."""

from collections.abc import Iterator

import pytest

from benchmarks.contention import compare, first_difference
from benchmarks.contention_program import Contest
from duress.simulator.server import Cell

SEEDS = range(1000, 1040)
REPETITIONS = 3


@pytest.fixture(scope="module")
def contest(cell: Cell) -> Iterator[Contest]:
    cell.begin()
    contest = Contest(cell)
    yield contest
    contest.close()


def test_runs_of_a_seed_agree_at_every_step(contest: Contest) -> None:
    diverged = dict(compare(contest, SEEDS, REPETITIONS))
    assert diverged == {}, "\n".join(f"seed {seed} diverges\n{text}" for seed, text in diverged.items())
    # It counts for something only if they did get in each other's way.
    counts = contest.counts
    assert counts.statements == len(SEEDS) * REPETITIONS * 84
    assert {"transactionid", "tuple", "relation", "advisory", "SafeSnapshot", "PgSleep"} <= counts.waits.keys()
    assert {"40P01", "40001", "55P03", "57014", "23503", "23505"} <= counts.errors.keys()
    assert counts.holds > 500 and counts.timers > 100


def test_another_server_that_has_run_nothing_yet_runs_the_same(contest: Contest, cell: Cell) -> None:
    """What a server and its sessions remember of earlier runs shows nowhere."""
    with Cell.start(binaries=cell.server.binaries) as other:
        anew = Contest(other)
        for seed in range(2000, 2010):
            here, there = contest.run(seed), anew.run(seed)
            assert here == there, f"seed {seed} diverges\n{first_difference(here, there)}"
        anew.close()


def test_seeds_differ(contest: Contest) -> None:
    assert contest.run(1) != contest.run(2)


def test_a_difference_is_shown_with_both_sides() -> None:
    one, other = [("a",), ("b",), ("c",)], [("a",), ("x",), ("c",)]
    assert first_difference(one, other).split() == ["0", "('a',)", "1", "first:", "('b',)", "1", "later:", "('x',)"]
    assert "nothing more" in first_difference(one, one[:2])
