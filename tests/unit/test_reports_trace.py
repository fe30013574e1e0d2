"""A trace can be read by a person, by a viewer of Chrome traces, and by ourselves; two of them show where they part."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from trace_events import objections

from duress.reports.difference import difference, parting
from duress.reports.perfetto import perfetto
from duress.reports.timeline import lines, timeline
from duress.reports.trace import Trace, UnreadableTrace, load
from duress.scenarios.observed import Happening
from duress.scenarios.result import Span

MS = 1_000_000

ENTRIES: tuple[Happening, ...] = (
    (0, "worker-0", "process", "incarnation 1 starts", -1),
    (0, "worker-0", "step", "serve#3 of 3,4", 0),
    (0, "worker-0", "send", "#1 connect application_name=duress:1", -1),
    (0, "", "choice", "network: latency of 1048576", 524288),
    (0, "worker-1", "step", "serve#4", -1),
    (1 * MS, "", "step", "network#1", -1),
    (1 * MS, "worker-0", "session", "#1 is session 1", -1),
    (1 * MS, "worker-0", "answer", "#1 0 rows, I /654797df", -1),
    (1 * MS, "worker-1", "session", "#2 is session 2", -1),
    (1 * MS, "main", "point", "workload.began", -1),
    (2 * MS, "worker-0", "send", "#1 \n   update account\n set x = 1 /0000beef", -1),
    (2 * MS, "worker-0", "point", "step.started incarnation=1 workflow=t-1 step=1 name=debit", -1),
    (3 * MS, "", "server", "session 1 waits: LOCK transactionid", -1),
    (3 * MS, "", "blocked", "session 1 by session 2", -1),
    (3 * MS, "", "server", "session 2 held at STATEMENT_END", -1),
    (3 * MS, "", "choice", "schedule: hold of 8", 7),
    (4 * MS, "worker-1", "fault", "drop rst #2", -1),
    (5 * MS, "", "step", "session 1#9 of 4,9", 1),
    (5 * MS, "", "server", "session 1 timer", -1),
    (5 * MS, "", "server", "session 1 goes on", -1),
    (5 * MS, "worker-0", "answer", "#1 1 rows, UPDATE 1; T /0000cafe", -1),
    (5 * MS, "main", "point", "fault.effect index=0 kind=drop-connection worker=1", -1),
    (6 * MS, "", "server", "session 2 is gone", -1),
    (6 * MS, "", "server", "session 1 waits: LOCK advisory", -1),
    (7 * MS, "worker-0", "send", "#1 commit /00000001", -1),
)
SPANS = (
    Span(worker=0, what="owns", start=0.001, end=0.006, label="t-1", epoch=1),
    Span(worker=0, what="owns", start=0.002, end=0.004, label="t-2", epoch=1),
    Span(worker=0, what="lease", start=0.0, end=1.0, label="1"),
)


def trace(*entries: Happening, verdict: str = "pass") -> Trace:
    return Trace(
        scenario="payments",
        seed=17,
        token="s1.311.payments.17.x",
        hash="ab" * 16,
        verdict=verdict,
        said=("S2 no-rerun: ran twice",) if verdict == "fail" else (),
        faults=("drop-connection at 0.4 s",),
        python="3.11.7",
        postgres="18.6",
        entries=entries or ENTRIES,
    )


def test_the_timeline_says_who_did_what_and_who_waits_for_whom() -> None:
    told = [" ".join(line.split()) for line in lines(ENTRIES)]
    assert told == [
        "0.000000 worker-0 incarnation 1 starts",
        "0.000000 worker-0 runs serve#3 [before serve#4]",
        "0.000000 worker-0 asks #1 connect application_name=duress:1 [latency 0.500]",
        "0.000000 worker-1 runs serve#4",
        "1.000000 worker-0 answered #1 after 1.000 ms: 0 rows, I",
        "1.000000 main * workload.began",
        "2.000000 worker-0 asks #1 update account set x = 1",
        "2.000000 worker-0 * step.started incarnation=1 workflow=t-1 step=1 name=debit",
        "3.000000 server session 1 (worker-0 #1) waits: LOCK transactionid, for session 2 (worker-1 #2)",
        "3.000000 server session 2 (worker-1 #2) held at STATEMENT_END",
        "3.000000 - [schedule: hold 7 of 8]",
        "4.000000 worker-1 FAULT drop rst #2",
        "5.000000 - runs session 1#9 [before serve#4]",
        "5.000000 server session 1 (worker-0 #1) timer",
        "5.000000 server session 1 (worker-0 #1) goes on after 2.000 ms",
        "5.000000 worker-0 answered #1 after 3.000 ms: 1 rows, UPDATE 1, in a transaction",
        "5.000000 main * fault.effect index=0 kind=drop-connection worker=1",
        "6.000000 server session 2 (worker-1 #2) is gone after 3.000 ms",
        "6.000000 server session 1 (worker-0 #1) waits: LOCK advisory",
        "7.000000 worker-0 asks #1 commit",
    ]


def test_the_timeline_begins_with_what_the_run_is() -> None:
    head = list(timeline(trace(verdict="fail")))[:5]
    assert head == [
        "payments, seed 17: fail",
        "  S2 no-rerun: ran twice",
        "duress replay s1.311.payments.17.x",
        f"hash {'ab' * 16}, Python 3.11.7, PostgreSQL 18.6",
        "fault: drop-connection at 0.4 s",
    ]


def test_a_remark_that_came_late_is_told_at_its_moment() -> None:
    late = (*ENTRIES[:10], (500_000, "main", "point", "fault.asked index=0", -1))
    told = [line.split(maxsplit=2)[2] for line in lines(late)]
    assert told.index("* fault.asked index=0") == 4


def events(document: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(document)["traceEvents"]
    return found


def test_a_chrome_trace_is_sound_and_has_a_track_for_each_connection_and_session() -> None:
    document = perfetto(trace(), SPANS)
    assert objections(document) == []
    found = events(document)
    tracks = {event["args"]["name"] for event in found if event["ph"] == "M"}
    assert tracks >= {"PostgreSQL", "worker-0", "connection #1", "session 1 (worker-0 #1)", "faults", "engine"}
    spans = {event["name"]: event for event in found if event["ph"] == "X"}
    assert (spans["update account set x = 1"]["ts"], spans["update account set x = 1"]["dur"]) == (2000, 3000)
    assert spans["waits: LOCK transactionid"]["dur"] == 2000
    assert spans["waits: LOCK transactionid"]["args"] == {"held by": "session 2 (worker-1 #2)"}
    assert spans["commit"]["args"]["answer"] == "none"  # nor has this wait ended when the run does:
    assert (spans["waits: LOCK advisory"]["ts"], spans["waits: LOCK advisory"]["dur"]) == (6000, 1000)
    instants = {event["name"]: event["s"] for event in found if event["ph"] == "i"}
    assert instants["drop-connection effect"] == instants["fault: worker-1 drop rst #2"] == "g"
    owned = [(event["name"], event["ts"]) for event in found if event["ph"] == "b"]
    assert owned == [("t-1", 2000.0), ("t-2", 3000.0)]  # after the workload began


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ph": "Q"}, "is not one of ours"),
        ({"ts": -1}, "must be a number from 0"),
        ({"dur": 99_999_999}, "ends after the span that it lies in"),
        ({"tid": 4711}, "has the names []"),
        ({"pid": "one"}, "must be a whole number"),
    ],
)
def test_a_trace_that_is_not_sound_is_noticed(changed: dict[str, Any], said: str) -> None:
    document = json.loads(perfetto(trace(), SPANS))
    span = next(event for event in document["traceEvents"] if event["name"].startswith("waits"))
    span.update(changed)
    assert any(said in objection for objection in objections(json.dumps(document).encode()))


def test_a_chrome_trace_holds_the_whole_run(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_bytes(perfetto(trace()))
    assert load(file) == trace()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "is not a trace of duress"),
        ("no JSON", "is not a trace of duress"),
        ('{"duress": {"version": 9}}', "is a trace of version 9, and this duress reads 1"),
        ('{"duress": {"version": 1}}', "does not hold a whole trace"),
    ],
)
def test_what_is_no_trace_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "t.json"
    file.write_text(text)
    with pytest.raises(UnreadableTrace, match=said):
        load(file)


def test_two_runs_part_where_an_entry_differs_or_one_ends() -> None:
    changed = (*ENTRIES[:20], msgspec.convert([5 * MS, "worker-0", "answer", "#1 2 rows", -1], Happening), ENTRIES[21])
    assert parting(ENTRIES, ENTRIES) is None
    assert parting(ENTRIES, ENTRIES[:7]) == parting(ENTRIES[:7], ENTRIES) == 7
    assert parting(ENTRIES, changed) == 20
    said = "\n".join(difference(trace(verdict="fail"), trace(*changed)))
    assert "A  fail          payments, seed 17" in said and "B  pass          payments, seed 17" in said
    assert "the runs part at 5.000000 ms, after 20 entries that are equal:" in said
    assert "answer: #1 1 rows, UPDATE 1; T /0000cafe" in said and "answer: #1 2 rows" in said
    context, _, sides = said.partition("  A  ")
    assert "session 1 (worker-0 #1) goes on after 2.000 ms" in context
    first, _, second = sides.partition("  B  ")
    assert "asks #1  commit" in first and "asks #1  commit" not in second


def test_a_run_that_ends_sooner_says_so_and_equal_ones_are_equal() -> None:
    assert "  B  ends here" in list(difference(trace(), trace(*ENTRIES[:7])))
    assert list(difference(trace(), trace()))[-1] == f"the same run: {len(ENTRIES)} entries are equal"
    assert "judged differently" in list(difference(trace(), trace(verdict="fail")))[-1]
