"""The summary: nothing is dropped, small samples are called small, and gaps are named."""

import math
from typing import Any

import msgspec
import pytest
from synthetic_campaign import campaign

from duress.reports import page
from duress.reports.summary import Summary, gaps, summarise
from duress.reports.wording import duration, duration_range, percent, plain
from duress.scenarios.result import Campaign, FaultRecord, Recovery, Run


def made(*faults: FaultRecord, **facts: Any) -> Campaign:
    """A green campaign of one run with these faults."""
    run = Run(seed=0, verdict="pass", faults=faults)
    return msgspec.structs.replace(campaign(runs=1), runs=(run,), not_covered=(), **facts)


def fault(first: float | None = None, *, affected: int = 3, effect: float | None = 1.0) -> FaultRecord:
    """A kill with this time to the first new checkpoint."""
    return FaultRecord(
        kind="kill-worker", worker=0, trigger="at 1 s", effect=effect, recovery=Recovery(first=first, affected=affected)
    )


def test_a_recovery_that_was_not_seen_is_counted_as_slower_than_all() -> None:
    seen = [fault(0.010 + index / 1000) for index in range(7)]
    sample = summarise(made(*seen, fault(None), fault(None))).kinds[0].first
    assert (sample.n, sample.not_seen, sample.idle) == (9, 2, 0)
    assert sample.median == 0.014  # the fifth of nine; without the two unseen it would be the fourth of seven
    assert page.cell(sample).footing == "n\xa0=\xa09, 2 not seen"


def test_mostly_unseen_has_no_median() -> None:
    sample = summarise(made(*[fault(0.01)] * 3, *[fault(None)] * 6)).kinds[0].first
    assert sample.median == math.inf
    assert page.cell(sample).figure == "not seen"


def test_nothing_in_flight_is_counted_apart() -> None:
    sample = summarise(made(fault(0.01), fault(None, affected=0))).kinds[0].first
    assert (sample.n, sample.not_seen, sample.idle) == (1, 0, 1)
    assert "1 with nothing in flight" in page.cell(sample).footing


def test_a_fault_that_did_not_fire_is_planned_and_a_gap_but_no_recovery() -> None:
    judged = summarise(made(fault(0.01), fault(effect=None)))
    kind = judged.kinds[0]
    assert (kind.planned, kind.fired, kind.first.n) == (2, 1, 1)
    assert gaps(judged.campaign, judged) == ("kill-worker: 1 of 2 planned never fired",)
    silent = summarise(made(fault(effect=None)))
    assert gaps(silent.campaign, silent) == ("kill-worker: planned once, never fired",)


def test_a_campaign_without_faults_says_so() -> None:
    quiet = summarise(made())
    assert quiet.worst is None
    assert page.slowest(quiet) is None
    assert any("no fault was planned" in gap for gap in gaps(quiet.campaign, quiet))


def test_five_recoveries_are_too_few_and_six_are_not() -> None:
    few, enough = (summarise(made(*[fault(0.01 * (1 + index)) for index in range(n)])) for n in (5, 6))
    assert page.cell(few.kinds[0].first).figure == "n too small"
    assert page.cell(few.kinds[0].first).range == "10–50\xa0ms"
    assert page.cell(enough.kinds[0].first).figure == "35\xa0ms"
    assert page.tail(enough.kinds[0].first, 0.95) == "n too small (6 of 59)"


def test_the_worst_kind_is_the_one_with_the_slowest_median() -> None:
    judged = summarise(campaign(red=True))
    assert judged.worst is not None
    assert judged.worst.kind == "pause-worker"


def test_a_kind_with_too_few_recoveries_is_not_ranked_but_that_is_said() -> None:
    slow = msgspec.structs.replace(fault(9.0), kind="pause-worker")
    told = page.slowest(summarise(made(slow, *[fault(0.01)] * 6)))
    assert told == ("kill-worker", "10\xa0ms", "95\xa0%: 10\xa0ms, n\xa0=\xa06", False)
    assert page.slowest(summarise(made(*[fault(0.01)] * 6))) == (*told[:3], True)


def test_the_line_to_paste_is_that_of_the_most_broken_invariant() -> None:
    judged = summarise(campaign(red=True))
    assert [broken.invariant for broken in judged.broken] == ["S2", "D1"]
    assert judged.reproduce == judged.broken[0].violations[0].reproduce
    assert page.headline(judged) == "S2 no-rerun and D1 conserved broken in 8 of 30\xa0runs"


def test_the_order_of_runs_does_not_matter() -> None:
    red = campaign(runs=9, red=True)
    backwards = msgspec.structs.replace(red, runs=red.runs[::-1])
    ours, theirs = summarise(red), summarise(backwards)
    assert (ours.kinds, ours.broken, ours.totals) == (theirs.kinds, theirs.broken, theirs.totals)


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        ("pass", "0 of 1 judged runs failed"),
        ("fail", "1 of 1 judged runs failed"),
        ("inconclusive", "no run was judged"),
    ],
)
def test_the_rate_of_failing_counts_only_judged_runs(verdict: Any, says: str) -> None:
    only = msgspec.structs.replace(campaign(runs=1), runs=(Run(seed=0, verdict=verdict),))
    judged: Summary = summarise(only)
    assert page.rate(judged).startswith(says)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 ms"),
        (0.00432, "4.3 ms"),
        (0.00999, "10 ms"),
        (0.02449, "24 ms"),
        (0.99949, "999 ms"),
        (0.9996, "1.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10 s"),
        (61.4, "61 s"),
        (math.inf, "not seen"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert plain(duration(seconds)) == text


def test_ranges_and_shares_read_well() -> None:
    assert plain(duration_range(0.020, 0.031)) == "20–31 ms"
    assert plain(duration_range(0.843, 1.22)) == "0.84–1.22 s"
    assert plain(duration_range(0.02, 1.22)) == "20 ms – 1.22 s"
    assert plain(duration_range(0.5, 0.5)) == "500 ms"
    assert plain(duration_range(0.5, math.inf)) == "over 500 ms"
    assert [plain(percent(share)) for share in (0.5, 0.0301, 0.003)] == ["50 %", "3.0 %", "0.30 %"]
