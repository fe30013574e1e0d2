"""The figures and stretches of a run are what its history and final state say."""

from dataclasses import replace
from typing import Any

import pytest
from stories import OFFSET as CLOCK
from stories import paused, undisturbed

from duress.engine import observer
from duress.scenarios import history, measure
from duress.scenarios.history import CheckpointRow, Entry, Evidence, FinalState
from duress.scenarios.result import Span
from duress.scenarios.spans import spans

OFFSET = 1_000_000.0


def evidence(entries: list[Entry], checkpoints: tuple[CheckpointRow, ...] = ()) -> Evidence:
    return Evidence(
        seed=1,
        history=tuple(entries),
        final=FinalState(workflows=(), checkpoints=checkpoints, workers=()),
        clock_offset=OFFSET,
        lease=1.0,
        workers=2,
    )


def entry(at: float, source: str, point: str, /, **facts: Any) -> Entry:
    return Entry(at, source, point, facts)


def checkpoint(step: str, epoch: int, at: float, workflow: str = "w") -> CheckpointRow:
    return CheckpointRow(
        number=1,
        workflow=workflow,
        step=step,
        name="charge",
        kind="step",
        failed=False,
        value="1",
        owner=1,
        epoch=epoch,
        at=at,
    )


def started(at: float, step: str, epoch: int, worker: int = 0) -> Entry:
    source = f"worker {worker}"
    return entry(at, source, observer.STARTED, workflow="w", step=step, epoch=epoch, name="charge", attempt=1, key="k")


def test_a_body_counts_as_rerun_under_a_later_epoch_not_as_a_retry() -> None:
    seen = evidence([started(0.1, "1", 1), started(0.2, "1", 1), started(0.3, "1", 2), started(0.4, "2", 2)])
    assert measure.bodies_rerun(seen) == 1


def test_attempts_count_whose_claim_never_wrote_the_checkpoint() -> None:
    requests = [
        entry(0.1, "receiver", history.RECEIVED, key="w:1", workflow="w", step="1", attempt=1, epoch=1, applied=True),
        entry(0.2, "receiver", history.RECEIVED, key="w:1", workflow="w", step="1", attempt=1, epoch=2, applied=False),
        entry(0.3, "receiver", history.RECEIVED, key="x:1", workflow="x", step="1", attempt=1, epoch=1, applied=True),
    ]
    assert measure.attempts_without_checkpoint(evidence(requests, (checkpoint("1", 2, OFFSET),))) == 2


def test_progress_is_in_the_run_s_time() -> None:
    rows = tuple(checkpoint(str(number), 1, OFFSET + at) for number, at in enumerate((0.5, 0.05)))
    assert [round(moment, 6) for moment in measure.progress(evidence([], rows))] == [0.05, 0.5]


def test_stalls_are_windows_in_which_work_waits() -> None:
    assert measure.stalls(undisturbed().evidence()) == ()
    story = paused()
    (stall,) = measure.stalls(story.evidence())
    assert stall == pytest.approx(1.025, abs=0.001)  # from the acceptance to the first checkpoint
    story.checkpoints = [
        replace(row, value=str(9.0 + CLOCK)) if row.kind == "sleep" else row for row in story.checkpoints
    ]
    assert len(measure.stalls(story.evidence())) == 1  # what sleeps does not wait


def test_ambiguous_commits_and_their_resolution_are_counted() -> None:
    story = undisturbed()
    about = {"workflow": "t", "epoch": 1, "step": "1", "name": "debit"}
    for at, present in ((0.2, True), (0.3, False), (0.4, None)):
        story.of_worker(at, 0, observer.AMBIGUOUS, **about)
        if present is not None:
            story.of_worker(at + 0.01, 0, observer.RESOLVED, **about, present=present)
    assert measure.ambiguous_commits(story.evidence()) == measure.Ambiguity(commits=3, present=1, absent=1, open=1)


def test_a_worker_s_stretches_end_with_its_process() -> None:
    seen = evidence(
        [
            entry(0.0, "harness", history.SPAWNED, worker=0, pid=9),
            entry(0.1, "worker 0", observer.WORKER_JOINED, worker="w0", incarnation=7, lease_until=OFFSET + 1.1),
            entry(0.2, "worker 0", observer.CLAIMED, workflow="w", epoch=3, name="transfer"),
            started(0.3, "1", 3),
            entry(0.4, "worker 0", observer.CHECKPOINTED, workflow="w", step="1", epoch=3, name="charge", at=OFFSET),
            started(0.5, "2", 3),
            entry(0.6, "harness", history.FAULT_EFFECT, index=0, kind="pause-worker", worker=0, confirmed_by=""),
            entry(0.9, "harness", history.FAULT_HEALED, index=0, kind="pause-worker", worker=0),
            entry(1.0, "harness", history.EXITED, worker=0, pid=9, signal=9, code=None),
            entry(2.0, "harness", history.SPAWNED, worker=0, pid=10),
            entry(3.0, "client", observer.READ, workflow="w", status="succeeded", digest=""),
        ]
    )
    assert [(one.what, one.start, round(one.end, 6), one.label, one.epoch) for one in spans(seen)] == [
        ("alive", 0.0, 1.0, "7", None),
        ("lease", 0.1, 1.1, "7", None),
        ("owns", 0.2, 1.0, "w", 3),
        ("step", 0.3, 0.4, "charge", 3),
        ("step", 0.5, 1.0, "charge", 3),
        ("paused", 0.6, 0.9, "", None),
        ("alive", 2.0, 3.0, "", None),
    ]


def test_a_lease_that_ran_out_before_it_was_renewed_is_two_stretches() -> None:
    def renewed(at: float, until: float) -> Entry:
        return entry(at, "worker 1", observer.WORKER_RENEWED, worker="w1", incarnation=4, lease_until=OFFSET + until)

    leases = spans(evidence([renewed(0.0, 1.0), renewed(0.5, 1.5), renewed(2.0, 3.0)]))
    assert [(one.worker, one.start, round(one.end, 6)) for one in leases] == [(1, 0.0, 1.5), (1, 2.0, 3.0)]
    assert all(isinstance(one, Span) and one.what == "lease" for one in leases)


def test_a_workflow_let_go_closes_its_stretch() -> None:
    seen = evidence(
        [
            entry(0.2, "worker 0", observer.CLAIMED, workflow="w", epoch=1, name="transfer"),
            entry(0.3, "worker 0", observer.CLAIMED, workflow="x", epoch=1, name="transfer"),
            entry(0.5, "worker 0", observer.SUSPENDED, workflow="w", epoch=1, due_at=OFFSET + 9),
            entry(0.9, "worker 0", observer.FINISHED, workflow="x", epoch=1, status="succeeded"),
        ]
    )
    assert [(one.label, one.start, one.end) for one in spans(seen)] == [("w", 0.2, 0.5), ("x", 0.3, 0.9)]
