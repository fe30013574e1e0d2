"""A violation's story: what was seen of one workflow, in order, with the faults in between, and not too much of it."""

import pytest

from duress.engine import observer
from duress.reports import outcomes
from duress.scenarios import history, measure
from duress.scenarios.history import Entry, Evidence, FinalState
from duress.scenarios.result import FaultRecord, Recovery, Run
from duress.scenarios.story import LONGEST, story


def entry(at: float, point: str, workflow: str | None = "w", source: str = "worker 1", **facts: object) -> Entry:
    return Entry(at, source, point, facts if workflow is None else {"workflow": workflow, **facts})


HISTORY = (
    entry(0.1, observer.STARTING, source="client", name="pay"),
    entry(0.2, observer.CLAIMED, epoch=1, name="pay", checkpoints=0),
    entry(0.25, observer.CLAIMED, "other", epoch=1),
    entry(0.3, observer.STARTED, step="1", name="debit", attempt=1, epoch=1),
    entry(0.35, observer.CHECKPOINTING, step="1", epoch=1),
    entry(0.4, history.FAULT_EFFECT, None, "harness", kind="kill-worker", worker=1, index=0),
    entry(0.5, observer.CLAIMED, source="worker 2", epoch=2, name="pay", checkpoints=0),
    entry(0.9, observer.FINISHED, source="worker 2", epoch=2, status="succeeded"),
    entry(1.5, history.FAULT_EFFECT, None, "harness", kind="stop-worker", worker=0, index=1),
)


def test_a_story_is_the_workflow_s_own_with_the_faults_while_it_went_on() -> None:
    lines = story(HISTORY, "w")
    assert len(lines) == 6
    assert lines[3] == "   0.4000 s  fault      kill-worker of worker 1 took effect"
    assert lines[4] == "   0.5000 s  worker 2   workflow.claimed  name pay, checkpoints 0, epoch 2"
    assert story(HISTORY, None) == () == story(HISTORY, "nobody")


def test_a_long_story_keeps_both_ends() -> None:
    lines = story([entry(float(at), observer.STARTED, step=str(at)) for at in range(200)], "w")
    assert len(lines) == LONGEST + 1
    assert "step 0" in lines[0] and "step 199" in lines[-1] and lines[LONGEST // 2] == "… 160 more …"


def test_the_latency_of_a_workflow_is_from_the_first_wish_to_the_first_end() -> None:
    doubled = (*HISTORY, entry(2.0, observer.STARTING, source="client"), entry(3.0, observer.FINISHED))
    evidence = Evidence(seed=1, history=doubled, final=FinalState((), (), ()), clock_offset=0.0, lease=1.0, workers=2)
    assert measure.latencies(evidence) == ((0.9, pytest.approx(0.8)),)


def test_every_planned_fault_is_in_one_column_of_the_heat_map() -> None:
    def fault(effect: float | None, first: float | None, affected: int = 1) -> FaultRecord:
        return FaultRecord(
            kind="k", worker=0, trigger="t", effect=effect, recovery=Recovery(first=first, affected=affected)
        )

    faults = (
        fault(None, None),
        fault(1.0, None, 0),
        fault(1.0, None),
        *(fault(1.0, at) for at in (0.1, 0.2, 9.0, 11.0)),
    )
    [row] = outcomes.rows([Run(seed=1, verdict="fail", faults=faults)])
    assert dict(zip(outcomes.COLUMNS, row.counts, strict=True)) == dict.fromkeys(outcomes.COLUMNS, 1)
    assert row.in_failed_runs == 6, "the one that never fired is not to blame"
    assert row.shade(0) == 1
    [all_alike] = outcomes.rows([Run(seed=1, verdict="pass", faults=faults[:1])])
    assert (all_alike.shade(0), all_alike.shade(1), all_alike.in_failed_runs) == (outcomes.SHADES, 0, 0)
