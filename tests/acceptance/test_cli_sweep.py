"""`duress sweep`: says what it struck and what it left out, goes on where it stopped, and tells of failures how to see them."""

from pathlib import Path

import pytest
from command_line import duress

SMALL = ("--set", "transfers=1", "--seed", "2", "--jobs", "1", "--json")


def test_a_sweep_that_is_cut_short_is_no_pass_and_is_gone_on_with(tmp_path: Path) -> None:
    words = ("sweep", "payments", *SMALL, "--places", "before", "--out", "swept")
    first = duress(tmp_path, *words, "--most", "2")
    assert first.code == 4, first.err + first.out
    assert first.document["verdict"] == "inconclusive" and not first.document["complete"]
    assert (first.document["runs"], first.document["unexplained"], first.document["failures"]) == (2, 0, [])
    assert first.document["points"]["hit"] == 1 < first.document["points"]["reached"]
    again = duress(tmp_path, *words, "--most", "3")
    assert again.document["seed"] == 2 and again.document["points"]["reached"] == first.document["points"]["reached"]
    assert again.document["runs"] == 5
    lines = (tmp_path / "swept" / "sweep.jsonl").read_text().splitlines()
    assert len(lines) == 6 == len(set(lines))
    other = duress(tmp_path, *words, "--seed", "3", "--most", "1")
    assert other.code == 2 and "is about another run (seed 2" in other.err


def test_pairs_strike_twice(tmp_path: Path) -> None:
    said = duress(
        tmp_path, "sweep", "payments", *SMALL, "--places", "after", "--pairs", "--most", "2", "--out", "swept"
    )
    assert said.code == 4, said.err + said.out  # of the single faults only two were tried
    assert (said.document["runs"], said.document["pairs"], said.document["unexplained"]) == (4, 2, 0)
    refused = duress(tmp_path, "sweep", "payments", "--pairs")
    assert refused.code == 2 and "--time" in refused.err


def test_what_is_broken_fails_at_its_place_with_the_line_that_shows_it_again(tmp_path: Path) -> None:
    """A takeover that forgets what was just claimed: the worker is killed at its first claim, the third point of its life."""
    canary = ("--canary", "recovery-skips-new", "--workers", "1", "--places", "point", "--out", "swept")
    said = duress(tmp_path, "sweep", "payments", *SMALL, *canary, "--most", "9")
    assert said.code == 1, said.err + said.out
    assert said.document["runs"] == 9
    [failure] = said.document["failures"]
    assert failure["broken"] == ["L1", "W3"] and failure["at"] == ["workflow.claimed"]
    assert failure["faults"] == ["kill worker 0 at its 1st workflow.claimed; restart it after 0.05 s"]
    again = duress(tmp_path, *failure["reproduce"].split()[1:], "--json")
    assert again.code == 1, again.err + again.out
    assert {one["invariant"] for one in again.document["violations"]} == {"L1", "W3"}


@pytest.mark.parametrize("places", ["", "beside", "before,beside"])
def test_places_that_there_are_not_are_refused_by_name(tmp_path: Path, places: str) -> None:
    said = duress(tmp_path, "sweep", "payments", "--places", places)
    assert said.code == 2 and "there is point, before, inside, after" in said.err
