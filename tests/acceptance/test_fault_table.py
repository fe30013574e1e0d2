"""Promise: every fault of the catalogue strikes in every world of its row, seen by others than its injector; the client sees
what the catalogue says, it heals, and the run passes. `python -m benchmarks.fault_table` prints the table.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine import needs, why_no_docker, why_no_toxiproxy

from benchmarks.fault_table.observe import Seen
from benchmarks.fault_table.play import PLACES, Line, Place, Stage, open_stage, rows
from benchmarks.fault_table.rows import ROWS, Row
from duress.faults.needs import lacking
from duress.faults.plan import KINDS, kind
from duress.faults.worlds import ABLE, can_elsewhere
from duress.scenarios.docker.image import DEFAULT
from duress.scenarios.history import FAULT_EFFECT, SOMETIMES, Entry

MARKS = {
    "toxiproxy": [needs("toxiproxy", why_no_toxiproxy())],
    "docker": [needs("docker", why_no_docker(os.environ.get("DURESS_IMAGE", DEFAULT)))],
}
Play = Callable[[Place, Row], Line]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Plays a row; each place is opened when it is first asked for."""
    with asyncio.Runner() as runner:
        opened = {}
        stages: dict[Place, Stage] = {}

        def played(place: Place, row: Row) -> Line:
            if place not in stages:
                opened[place] = open_stage(place, tmp_path_factory.mktemp(place))
                stages[place] = runner.run(opened[place].__aenter__())
            return runner.run(stages[place].play(row))

        try:
            yield played
        finally:
            for stage in opened.values():
                runner.run(stage.__aexit__(None, None, None))


def cells() -> Iterator[object]:
    for place in PLACES:
        for row in rows(place):
            lack = "" if place == "sim" else lacking(kind(row.fault))
            marks = [*MARKS.get(place, ()), pytest.mark.skipif(bool(lack), reason=lack)]
            yield pytest.param(place, row, marks=marks, id=f"{place} {row.name}")


@pytest.mark.parametrize(("place", "row"), list(cells()))
def test_a_fault_strikes_is_seen_heals_and_is_survived(play: Play, place: Place, row: Row) -> None:
    """The row raises unless all of that is so, and unless its observer is silent about a run without the fault."""
    line = play(place, row)
    print(line)
    assert line.struck and line.saw and line.healed


def test_no_kind_and_no_world_is_left_out() -> None:
    assert {kind(row.fault) for row in ROWS} == KINDS.keys() == ABLE.keys()
    for place, (world, _) in PLACES.items():
        if place != "toxiproxy":
            assert {kind(row.fault) for row in rows(place)} == {name for name in KINDS if can_elsewhere(name, world)}


def test_no_observer_believes_an_injector() -> None:
    """What the harness enters about a fault, and what a worker says of anything else, confirms nothing."""
    entries = [Entry(0.5, "harness", FAULT_EFFECT, {"index": 0, "kind": kind(row.fault), "worker": 0}) for row in ROWS]
    entries.append(Entry(0.6, "worker 0", SOMETIMES, {"what": "a call was sent again on another connection"}))
    assert [row.name for row in ROWS if row.struck(Seen(tuple(entries)))] == []


def test_nothing_of_the_injectors_is_imported_by_what_observes() -> None:
    for name in ("observe.py", "rows.py", "apart.py"):
        source = (Path(__file__).parents[2] / "benchmarks" / "fault_table" / name).read_text()
        assert "injectors" not in source.partition('"""\n\n')[2]
