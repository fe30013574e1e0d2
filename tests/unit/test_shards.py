"""Shards of a campaign have each seed once, whatever their number; what is not one campaign is not put together."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_campaign import campaign

from duress.cli.choices import chosen_seeds
from duress.scenarios.conclusion import conclude
from duress.scenarios.result import HarnessFailure
from duress.scenarios.shards import NotOneCampaign, Shard, merge
from duress.scenarios.stream import STREAM_FILE, Stream, read_stream

A, B, HERE = Path("a"), Path("b"), Path("here")


@given(st.integers(0, 60), st.integers(1, 9), st.none() | st.text(min_size=1).filter(str.strip))
def test_all_shards_together_are_exactly_the_whole(count: int, of: int, drawn_from: str | None) -> None:
    whole = chosen_seeds(count, None, drawn_from, None)
    parts = [chosen_seeds(count, None, drawn_from, Shard(index, of)) for index in range(1, of + 1)]
    assert sorted(seed for part in parts for seed in part) == list(whole)
    assert len(whole) == count


def test_seeds_from_a_text_are_its_own() -> None:
    first, again, other = (chosen_seeds(5, None, text, None) for text in ("1f0c2b", " 1f0c2b\n", "1f0c2c"))
    assert list(first) == list(again)
    assert not set(first) & set(other)
    assert min(first) > 1000 and max(first) < 2**53


def test_a_merge_concludes_anew_from_all_runs() -> None:
    """Each part lacks a kind of fault that the other has; together they lack none, and one violation makes all of it fail."""
    base = msgspec.structs.replace(campaign(runs=1), allowed=("kill-worker", "pause-worker"))
    runs = campaign(runs=12, red=True).runs
    struck = {run.seed: {fault.kind for fault in run.faults} for run in runs}
    one = conclude(base, [run for run in runs if "pause-worker" not in struck[run.seed]])
    two = conclude(base, [run for run in runs if "kill-worker" not in struck[run.seed] and run not in one.runs])
    assert all(any("did not fire" in gap for gap in part.not_covered) for part in (one, two))
    whole = merge([(A, two), (B, one)], HERE)
    assert whole.verdict == "fail" and "runs violated" in whole.reasons[0]
    assert [run.seed for run in whole.runs] == sorted(run.seed for part in (one, two) for run in part.runs)
    assert not any("did not fire" in gap for gap in whole.not_covered)
    assert len(whole.not_covered) == len(set(whole.not_covered)) >= 3


def test_missing_shards_and_failures_of_the_harness_leave_it_inconclusive() -> None:
    base = campaign(runs=6)
    parts = [
        (Path(shard), msgspec.structs.replace(base, shards=(shard,), runs=base.runs[place : place + 1], wanted=1))
        for place, shard in enumerate(("1/4", "3/4"))
    ]
    whole = merge(parts, HERE)
    assert whole.verdict == "inconclusive" and whole.reasons == ("the whole is 4 shards; missing: 2/4, 4/4",)
    failed = msgspec.structs.replace(parts[1][1], failures=(HarnessFailure(seed=9, message="ServerError: gone"),))
    assert "the harness failed at seed 9: ServerError: gone" in merge([parts[0], (B, failed)], HERE).reasons


def test_shards_of_two_cuts_do_not_mix() -> None:
    base = campaign(runs=6)
    one = msgspec.structs.replace(base, shards=("1/2",), runs=base.runs[:1])
    two = msgspec.structs.replace(base, shards=("2/3",), runs=base.runs[1:2])
    with pytest.raises(NotOneCampaign, match="different cuts: 1/2, 2/3"):
        merge([(A, one), (B, two)], HERE)


def test_other_settings_are_named_but_not_the_number_of_jobs() -> None:
    base = campaign(runs=6)
    one = msgspec.structs.replace(base, runs=base.runs[:3])
    two = msgspec.structs.replace(base, runs=base.runs[3:], settings={**base.settings, "jobs": 8})
    assert len(merge([(A, one), (B, two)], HERE).runs) == 6
    slower = msgspec.structs.replace(two, settings={**base.settings, "lease_s": 5.0})
    with pytest.raises(NotOneCampaign, match=r"lease_s is 1\.0 here and 5\.0 there"):
        merge([(A, one), (B, slower)], HERE)


def test_a_stream_gives_every_run_that_ended(tmp_path: Path) -> None:
    base = campaign(runs=5)
    stream = Stream(tmp_path)
    stream.begin(msgspec.structs.replace(base, runs=(), wanted=5))
    assert read_stream(tmp_path / STREAM_FILE).runs == ()
    for run in reversed(base.runs[:4]):
        stream.add(run)
    stream.close()
    file = tmp_path / STREAM_FILE
    assert read_stream(file).runs == base.runs[:4]
    assert read_stream(file).verdict == "inconclusive"
    whole = file.read_bytes()
    for cut in (1, 100):
        file.write_bytes(whole[:-cut])
        assert [run.seed for run in read_stream(file).runs] == [1, 2, 3]
    file.write_bytes(whole.replace(b'"seed":2', b'"seed":"two"', 1))
    with pytest.raises(msgspec.ValidationError):
        read_stream(file)
