"""`duress sweep`: says what it struck and what it left out, goes on where it stopped, and tells of failures how to see them."""

from pathlib import Path

import pytest
from command_line import duress

SMALL = ("--set", "transfers=1", "--seed", "2", "--jobs", "1", "--json")


def test_a_sweep_that_is_cut_short_is_no_pass_and_is_gone_on_with(tmp_path: Path) -> None:
    words = ("sweep", "payments", *SMALL, "--places", "before", "--out", "swept")
    first = duress(tmp_path, *words, "--time", "0.001")
    assert first.code == 4, first.err + first.out
    assert first.document["verdict"] == "inconclusive" and not first.document["complete"]
    assert (first.document["runs"], first.document["unexplained"]) == (0, 0)
    assert first.document["points"]["hit"] == 0 < first.document["points"]["reached"]
    again = duress(tmp_path, *words, "--time", "12")
    assert again.document["seed"] == 2 and again.document["points"]["reached"] == first.document["points"]["reached"]
    assert again.document["runs"] > 3 and again.document["failures"] == []
    lines = (tmp_path / "swept" / "sweep.jsonl").read_text().splitlines()
    assert len(lines) == 1 + again.document["runs"] == len(set(lines))
    other = duress(tmp_path, *words, "--seed", "3", "--time", "1")
    assert other.code == 2 and "is about another run (seed 2" in other.err


def test_pairs_strike_twice(tmp_path: Path) -> None:
    said = duress(
        tmp_path, "sweep", "payments", *SMALL, "--places", "after", "--pairs", "--time", "0.001", "--out", "swept"
    )
    assert said.code == 4 and said.document["pairs"] == 0
    refused = duress(tmp_path, "sweep", "payments", "--pairs")
    assert refused.code == 2 and "--time" in refused.err


def test_what_is_broken_fails_with_the_line_that_shows_it_again(tmp_path: Path) -> None:
    said = duress(
        tmp_path,
        "sweep",
        "payments",
        *SMALL,
        "--canary",
        "key-of-the-epoch",
        "--places",
        "point",
        "--time",
        "25",
        "--out",
        "swept",
    )
    assert said.code == 1, said.err + said.out
    failure = said.document["failures"][0]
    assert failure["broken"] == ["S4"] and failure["faults"][0].startswith("kill worker")
    again = duress(tmp_path, *failure["reproduce"].split()[1:], "--json")
    assert again.code == 1 and again.document["violations"][0]["invariant"] == "S4", again.err + again.out


@pytest.mark.parametrize("places", ["", "beside", "before,beside"])
def test_places_that_there_are_not_are_refused_by_name(tmp_path: Path, places: str) -> None:
    said = duress(tmp_path, "sweep", "payments", "--places", places)
    assert said.code == 2 and "there is point, before, inside, after" in said.err
