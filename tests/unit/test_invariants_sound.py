"""No invariant convicts a sound run, whatever faults it went through."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from stories import OFFSET, OPENING, Story, found, go_on, killed, paused, undisturbed

from duress.engine import observer
from duress.scenarios import history


def suspended() -> Story:
    """A long sleep; another worker wakes it while the first one lives. Nobody told of the suspension."""
    story = Story()
    story.join(0, 1, -0.5, 5.0)
    story.join(1, 2, -0.4, 5.0)
    story.accept("t", 0.010)
    story.claim("t", 1, 0, 0.020)
    story.transact("t", 1, 0, 0.030, "1", "debit", "a", -100)
    story.start_body("t", 1, 0, 0.040, "2", "charge")
    story.request("t", 1, 0.045, "2")
    story.record("t", 1, 0, 0.050, "2", "charge")
    story.record("t", 1, 0, 0.060, "3", "sleep", "sleep", str(1.6 + OFFSET))
    story.claim("t", 2, 1, 1.600)
    for step, name in (("1", "debit"), ("2", "charge"), ("3", "sleep")):
        story.replay("t", 2, 1, 1.605, step, name)
    story.transact("t", 2, 1, 1.610, "4", "credit", "b", 100)
    story.finish("t", 2, 1, 1.630)
    return story


def handed_over() -> Story:
    """A graceful stop: released, claimed by the other, and the word of it comes late."""
    story = Story()
    story.join(0, 1, -0.5, 0.06)
    story.join(1, 2, -0.4, 1.0)
    story.accept("t", 0.010)
    story.claim("t", 1, 0, 0.020)
    story.transact("t", 1, 0, 0.030, "1", "debit", "a", -100)
    story.fault(0, "stop-worker", 0, 0.045, 0.120)
    story.claim("t", 2, 1, 0.060)
    story.of_worker(0.070, 0, observer.RELEASED, workflow="t", epoch=1)
    story.of_worker(0.080, 0, observer.WORKER_LEFT)
    story.exit(0, 0.100, signal=None)
    story.replay("t", 2, 1, 0.065, "1", "debit")
    go_on(story, "t", 2, 1, 0.070)
    return story


def outage() -> Story:
    """The server restarts: all sessions are gone, and worker 1 is quicker to come back than worker 0."""
    story = Story()
    story.join(0, 1, -0.5, 0.06)
    story.join(1, 2, -0.4, 0.06)
    story.accept("t", 0.010)
    story.claim("t", 1, 0, 0.020)
    story.transact("t", 1, 0, 0.030, "1", "debit", "a", -100)
    story.fault(0, "restart-postgres", 0, 0.060, 0.065, 0.300)
    story.beat(1, 0.310, 2.0)
    story.take_over(0.320, 1, 1, "lock")
    story.claim("t", 2, 1, 0.330)
    story.replay("t", 2, 1, 0.335, "1", "debit")
    go_on(story, "t", 2, 1, 0.340)
    story.of_worker(0.500, 0, observer.FENCED, workflow="t", epoch=1, step="2")
    story.of_worker(0.510, 0, observer.WORKER_LOST)
    return story


def died_within_its_commit() -> Story:
    """Worker 0 is killed while it finishes; that commit happened, and nobody told."""
    story = undisturbed()
    story.entries = [entry for entry in story.entries if entry.name != observer.FINISHED]
    story.fault(0, "kill-worker", 0, 0.119, 0.121)
    story.exit(0, 0.122)
    story.take_over(0.130, 1, 1, "lock")
    return story


def renamed() -> Story:
    """Another path was taken, and the workflow failed by the name of it."""
    story = undisturbed()
    outcome = '{"type":"NonDeterminism","message":"asks for step screen at place 2"}'
    story.workflows = [replace(story.workflows[0], status="failed", outcome=outcome)]
    story.entries = [entry for entry in story.entries if entry.name not in (observer.FINISHED, observer.READ)]
    story.claim("t", 2, 1, 0.200)
    story.replay("t", 2, 1, 0.210, "2", "screen")
    story.finish("t", 2, 1, 0.220, outcome, "failed")
    return story


def handed_back_for_a_sleep_that_was_replayed() -> Story:
    """The second claim comes before the sleep is over, and hands the workflow back; it has no checkpoint of its own."""
    story = suspended()
    story.entries = [entry for entry in story.entries if entry.facts.get("epoch") != 2]
    story.checkpoints = [row for row in story.checkpoints if row.step != "4"]
    story.ledger, story.balances["b"] = [line for line in story.ledger if line["step"] != "4"], OPENING
    for epoch, worker, at in ((2, 1, 1.0), (3, 0, 1.6)):
        story.claim("t", epoch, worker, at)
        for step, name in (("1", "debit"), ("2", "charge"), ("3", "sleep")):
            story.replay("t", epoch, worker, at + 0.002, step, name)
    story.of_worker(1.7, 1, observer.SUSPENDED, workflow="t", epoch=2, due_at=1.6 + OFFSET)
    story.transact("t", 3, 0, 1.610, "4", "credit", "b", 100)
    story.finish("t", 3, 0, 1.630)
    return story


def left_by_itself() -> Story:
    """A worker leaves though nobody asked it to, and says so."""
    story = handed_over()
    quiet = (history.FAULT_ASKED, history.FAULT_EFFECT, observer.RELEASED, observer.WORKER_LEFT, history.EXITED)
    story.entries = [entry for entry in story.entries if entry.name not in quiet]
    story.of_worker(0.055, 0, observer.WORKER_LEFT)
    return story


def ended_by_itself() -> Story:
    """A worker ends without being asked to; its end is seen only after its successor has taken over."""
    story = killed()
    story.entries = [entry for entry in story.entries if not entry.name.startswith("fault.")]
    story.entries = [replace(entry, at=0.2) if entry.name == history.EXITED else entry for entry in story.entries]
    return story


def claimed_anew_by_its_owner() -> Story:
    """The answer to a claim was lost; the same worker claims the workflow again."""
    story = undisturbed()
    for place, entry in enumerate(story.entries):
        if entry.facts.get("epoch") == 1 and entry.name != observer.CLAIMED:
            story.entries[place] = replace(entry, facts={**entry.facts, "epoch": 2})
    story.claim("t", 2, 0, 0.022)
    story.checkpoints = [replace(row, epoch=2) for row in story.checkpoints]
    story.ledger = [{**line, "epoch": 2} for line in story.ledger]
    story.workflows = [replace(story.workflows[0], epoch=2)]
    return story


def used_a_place_for_nothing() -> Story:
    """A call that failed before it could be recorded took the number 3, and the code went on."""
    story = undisturbed()
    story.entries = [entry for entry in story.entries if entry.facts.get("step") != "3"]
    story.checkpoints = [row for row in story.checkpoints if row.step != "3"]
    return story


def lost_a_race() -> Story:
    """What the loser of a race recorded is not asked for by a replay."""
    story = killed()
    story.record("t", 1, 0, 0.045, "1/1", "screen")
    return story


def took_another_way_before_it_was_recorded() -> Story:
    """The killed worker had begun another step at this place; nothing was recorded there."""
    story = killed()
    story.entries = [
        replace(entry, facts={**entry.facts, "name": "screen"})
        if entry.name == observer.STARTED and entry.facts["epoch"] == 1 and entry.facts["step"] == "2"
        else entry
        for entry in story.entries
    ]
    return story


def failed_early() -> Story:
    """The second run fails before it asks for what was recorded, with the money in transit."""
    story = killed()
    late = ("2", "3", "4")
    story.entries = [
        entry
        for entry in story.entries
        if (entry.facts.get("epoch") != 2 or entry.name == observer.CLAIMED) and entry.name != observer.READ
    ]
    story.checkpoints = [row for row in story.checkpoints if row.step not in late]
    story.ledger, story.balances["b"] = [line for line in story.ledger if line["step"] not in late], OPENING
    story.finish("t", 2, 1, 0.1, '{"type":"OSError","message":"no way"}', "failed")
    return story


def cancelled_at_once() -> Story:
    """Nothing had been done; nothing has to be there."""
    story = Story()
    story.join(1, 2, -0.4, 1.0)
    story.accept("t", 0.010)
    story.workflows = [replace(story.workflows[0], status="cancelled", epoch=1)]
    return story


def lease_over() -> Story:
    """The owner is silent for a while without a fault that anybody knows of; its lease ends, another claims, and much
    later there is talk of a lease again."""
    story = paused()
    story.entries = [entry for entry in story.entries if not entry.name.startswith("fault.")]
    story.incarnations[0] = 1
    story.beat(0, 4.0, 5.0)
    story.incarnations[0] = 3
    return story


SOUND = (
    *(undisturbed, killed, paused, suspended, handed_over, outage, died_within_its_commit, renamed),
    *(handed_back_for_a_sleep_that_was_replayed, left_by_itself, ended_by_itself, claimed_anew_by_its_owner),
    *(
        used_a_place_for_nothing,
        lost_a_race,
        took_another_way_before_it_was_recorded,
        failed_early,
        cancelled_at_once,
        lease_over,
    ),
)


@pytest.mark.parametrize("sound", SOUND)
def test_no_invariant_is_broken_by_a_sound_run(sound: Callable[[], Story]) -> None:
    assert found(sound()) == {}


def test_what_workers_do_after_the_end_is_not_judged() -> None:
    """The final state was read before they were stopped."""
    story = killed()
    story.claim("t", 3, 0, 3.0)
    story.of_worker(3.1, 0, observer.CHECKPOINTED, workflow="t", epoch=3, step="5", name="credit")
    assert found(story, calm=(1.0, 2.9)) == {}


def test_a_workflow_whose_start_was_never_acknowledged_may_be_missing() -> None:
    story = undisturbed()
    story.tell(0.3, "client", observer.STARTING, workflow="u", name="transfer")
    assert found(story) == {}


def test_no_progress_is_due_for_a_workflow_that_ended_untold() -> None:
    assert "L1" not in found(died_within_its_commit(), calm=(0.5, 5.9))


def test_no_progress_is_due_while_all_sleep() -> None:
    story = suspended()
    story.checkpoints = [
        replace(row, value=str(6.0 + OFFSET)) if row.kind == "sleep" else row for row in story.checkpoints
    ]
    story.entries = [entry for entry in story.entries if entry.facts.get("epoch") != 2]
    story.workflows = [replace(story.workflows[0], status="open", outcome=None)]
    assert "L1" not in found(story, calm=(0.5, 5.9))
