"""The search for plainer decisions keeps what must stay, and nothing else."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from duress.simulator import shrinking
from duress.simulator.shrinking import Recorded

Fails = Callable[[Recorded], bool]


def searched(start: Recorded, fails: Fails) -> tuple[Recorded, int]:
    """What the search finds where a run decides just what is recorded, and how many runs that took."""
    search, runs = shrinking.simpler(start), 0
    try:
        proposal = next(search)
        while True:
            runs += 1
            proposal = search.send(proposal if fails(proposal) else None)
    except StopIteration as end:
        found: Recorded = end.value
        return found, runs


def at(recorded: Recorded, stream: str, place: int) -> int:
    values = recorded.get(stream, ())
    return values[place] if place < len(values) else 0


def test_what_needs_nothing_is_found_by_one_run() -> None:
    found, runs = searched({"schedule": (3, 1, 2), "network": (7,) * 100}, lambda _: True)
    assert shrinking.weight(found) == (0, 0)
    assert runs == 1


@settings(max_examples=60, deadline=None)
@given(
    needed=st.dictionaries(
        st.tuples(st.sampled_from(["network", "schedule"]), st.integers(0, 299)), st.integers(1, 5), max_size=4
    ),
    noise=st.integers(1, 9),
)
def test_only_what_is_needed_stays_and_gets_smaller(needed: dict[tuple[str, int], int], noise: int) -> None:
    """The failure needs some decisions to be so large at least; all others end as the plain one."""
    start = {name: tuple(noise + 5 for _ in range(300)) for name in ("network", "schedule")}

    def fails(recorded: Recorded) -> bool:
        return all(at(recorded, name, place) >= least for (name, place), least in needed.items())

    found, runs = searched(start, fails)
    left = {(name, place): value for name, values in found.items() for place, value in enumerate(values) if value}
    assert left.keys() == needed.keys()
    assert all(value <= (noise + 5) // 2 or value < 2 * needed[one] for one, value in left.items())
    assert runs <= 40 + 60 * len(needed)


def test_it_goes_on_from_what_the_runs_really_decided() -> None:
    """A run decides otherwise than proposed: the shorter list is asked for less. What it says is what is kept."""

    def really(proposal: Recorded) -> Recorded:
        values = proposal.get("schedule", ())
        return {"schedule": tuple(min(value, 2) for value in values[:10])}

    search = shrinking.simpler({"schedule": (5,) * 50})
    found: Recorded = {}
    try:
        proposal = next(search)
        while True:
            made = really(proposal)
            proposal = search.send(made if at(made, "schedule", 4) else None)
    except StopIteration as end:
        found = end.value
    assert [place for place, value in enumerate(found["schedule"]) if value] == [4]
    assert len(found["schedule"]) <= 10
