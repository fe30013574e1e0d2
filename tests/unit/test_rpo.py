"""R1: whatever was acknowledged is there; what an asynchronous standby lacks is counted, and nothing is built on it."""

from dataclasses import replace

from stories import Story

from duress.engine import observer
from duress.scenarios import rpo
from duress.scenarios.history import Evidence, FinalState, Survived, WorkflowRow
from duress.scenarios.invariants import judge


def story() -> Story:
    """One transfer: two checkpoints at 1.1 and 1.3 s, an outcome at 1.4 s."""
    told = Story()
    told.join(0, 1, 0.5, 2.0)
    told.accept("t", 1.0)
    told.claim("t", 1, 0, 1.05)
    told.record("t", 1, 0, 1.1, "1", "debit")
    told.record("t", 1, 0, 1.3, "2", "charge")
    told.finish("t", 1, 0, 1.4)
    return told


def findings(evidence: Evidence) -> list[str]:
    return [finding.message for finding in judge(evidence, ["R1"])]


def survived(evidence: Evidence, mode: str, *, at: float, checkpoints: int, workflows: bool = True) -> Evidence:
    """The same run, with a failover at `at` to a standby that had the first so many checkpoints."""
    open_ = tuple(WorkflowRow(row.number, row.id, row.name, "open", None, 1) for row in evidence.final.workflows)
    state = FinalState(
        workflows=open_ if workflows else (),
        checkpoints=evidence.final.checkpoints[:checkpoints],
        workers=evidence.final.workers,
    )
    return replace(evidence, survived=Survived(mode, at, state))  # type: ignore[arg-type]


def test_what_is_there_is_not_missed() -> None:
    evidence = story().evidence()
    assert rpo.lost(evidence) == rpo.Lost() and rpo.lost(evidence).count == 0
    assert findings(evidence) == []


def test_each_acknowledgement_that_is_missing_at_the_end_is_found() -> None:
    whole = story().evidence()
    none = replace(whole, final=replace(whole.final, workflows=(), checkpoints=()))
    assert rpo.lost(none) == rpo.Lost(accepted=("t",), checkpoints=(("t", "1"), ("t", "2")), outcomes=("t",))
    assert len(findings(none)) == 4
    one = replace(whole, final=replace(whole.final, checkpoints=whole.final.checkpoints[:1]))
    assert findings(one) == ["The checkpoint of step 2 of t was acknowledged, and is missing at the end."]


def test_one_that_was_written_in_its_place_is_another() -> None:
    """After a failover an epoch can come twice, under the same owner: only the time tells the two apart."""
    whole = story().evidence()
    [first, second] = whole.final.checkpoints
    for other in (replace(second, at=second.at + 0.5), replace(second, owner=9), replace(second, epoch=2)):
        evidence = replace(whole, final=replace(whole.final, checkpoints=(first, other)))
        assert rpo.lost(evidence).checkpoints == (("t", "2"),)
    again = replace(whole, final=replace(whole.final, workflows=(replace(whole.final.workflows[0], number=7),)))
    assert rpo.lost(again).accepted == ("t",)


def test_a_synchronous_standby_must_have_it_all() -> None:
    whole = story().evidence()
    assert findings(survived(whole, "sync", at=1.35, checkpoints=2)) == []
    evidence = survived(whole, "sync", at=1.35, checkpoints=1)
    assert findings(evidence) == [
        "The checkpoint of step 2 of t was acknowledged, and is missing on the standby when it was promoted."
    ]
    assert findings(survived(whole, "sync", at=1.5, checkpoints=2)) == [
        "The outcome of t was acknowledged, and is missing on the standby when it was promoted."
    ]


def test_an_asynchronous_standby_may_lack_it_and_the_loss_is_counted() -> None:
    evidence = survived(story().evidence(), "async", at=1.35, checkpoints=1)
    assert rpo.lost(evidence).count == 1
    assert findings(survived(story().evidence(), "async", at=1.35, checkpoints=1, workflows=False)) == []
    assert rpo.lost(survived(story().evidence(), "async", at=1.35, checkpoints=1, workflows=False)).count == 2


def test_nothing_is_built_on_what_was_lost() -> None:
    """Step 1 was lost; step 2 stands there all the same, before step 1 does again (or without it)."""
    whole = story().evidence()
    [first, second] = whole.final.checkpoints
    for rows in ((replace(first, at=second.at + 0.1), second), (second,)):
        built = replace(whole, final=replace(whole.final, checkpoints=rows))
        evidence = survived(built, "async", at=1.2, checkpoints=0)
        evidence = replace(evidence, survived=replace(evidence.survived, state=FinalState((), (), ())))  # type: ignore[type-var]
        [message] = findings(evidence)
        assert "Step 2 (charge) of t was recorded under epoch 1 when step 1 before it was lost" in message
    redone = (replace(first, at=first.at + 0.4), replace(second, at=second.at + 0.4))
    evidence = survived(replace(whole, final=replace(whole.final, checkpoints=redone)), "async", at=1.2, checkpoints=0)
    assert findings(evidence) == []


def test_what_was_said_of_a_workflow_that_lost_something_is_forgiven_until_it_is_claimed_anew() -> None:
    told = story()
    other = story()
    told.claim("t", 1, 0, 1.6)
    told.record("t", 1, 0, 1.7, "3", "credit")
    told.accept("u", 1.01)
    evidence = survived(told.evidence(), "async", at=1.35, checkpoints=1)
    kept = [
        (entry.name, entry.facts["workflow"]) for entry in rpo.forgiven(evidence).history if "workflow" in entry.facts
    ]
    assert ("client.accepted", "u") in kept
    assert [name for name, id_ in kept if id_ == "t"] == ["workflow.claimed", "step.checkpointed"]
    assert rpo.forgiven(other.evidence()) == other.evidence(), "nothing is forgiven without a failover"
    sync = survived(other.evidence(), "sync", at=1.35, checkpoints=1)
    assert rpo.forgiven(sync) == sync, "nor after one to a synchronous standby"


def test_an_acknowledgement_that_is_heard_late_is_one_of_before_the_failover() -> None:
    """The reply to step 2 came before the primary was lost; its worker had the time to read it only after the promotion."""
    told = story()
    [first, second] = told.checkpoints
    told.checkpoints = [first, replace(second, at=second.at + 1.0, epoch=2)]
    told.claim("t", 2, 0, 2.2)
    evidence = survived(told.evidence(), "async", at=1.2, checkpoints=1)
    assert rpo.lost(evidence).checkpoints == (("t", "2"),)
    kept = [entry.name for entry in rpo.forgiven(evidence).history if entry.source == "worker 0" and entry.at > 1.2]
    assert "step.checkpointed" not in kept and "workflow.claimed" in kept


def test_joinings_and_leases_that_the_standby_does_not_know_are_forgiven() -> None:
    told = story()
    told.join(1, 2, 1.3, 1.4)
    whole = survived(told.evidence(), "async", at=1.35, checkpoints=2)
    known = [row for row in whole.final.workers if row.incarnation == told.incarnations[0]]
    assert whole.survived is not None
    state = replace(whole.survived.state, workers=tuple(known))
    evidence = replace(whole, survived=replace(whole.survived, state=state))
    joined = [entry.source for entry in rpo.forgiven(evidence).history if entry.name == observer.WORKER_JOINED]
    assert joined == ["worker 0"]
