"""F3 and L1: what is promised about how long things take."""

from dataclasses import replace

from stories import Story, found, killed, paused, undisturbed

from duress.engine import observer
from duress.scenarios import history


def test_a_paused_worker_that_nobody_succeeds_is_a_hostage_taker() -> None:
    story = paused()
    after_the_claim(story, 2.2)
    assert "Worker 0 was paused at 0.0420 s for 3.00 s, holding t" in found(story)["F3"]
    assert "transaction of step 1 (debit) open" in found(story)["F3"]


def test_a_paused_worker_that_goes_on_itself_is_a_hostage_taker_too() -> None:
    story = paused()
    gone = (observer.FENCED, observer.TOOK_OVER, observer.WORKER_LOST)
    story.entries = [
        entry
        for entry in story.entries
        if entry.facts.get("epoch") != 2 and entry.name not in gone and entry.facts.get("incarnation") != 3
    ]
    story.incarnations[0] = 1
    story.of_worker(3.100, 0, observer.CHECKPOINTING, workflow="t", epoch=1, step="2", name="charge")
    story.of_worker(3.110, 0, observer.FINISHED, workflow="t", epoch=1, status="succeeded")
    assert "nobody had succeeded it within lease + 1 s" in found(story)["F3"]


def test_a_pause_shorter_than_the_bound_takes_no_hostage() -> None:
    story = paused(1.9)
    after_the_claim(story, 1.9)
    assert "F3" not in found(story)


def test_nobody_has_to_succeed_a_paused_worker_while_the_server_is_away() -> None:
    story = paused()
    after_the_claim(story, 2.2)
    story.fault(1, "restart-postgres", 1, 0.9, 0.95, 2.1)
    assert "F3" not in found(story)


def test_a_fault_of_another_worker_at_the_takeover_may_delay_it() -> None:
    story = paused()
    after_the_claim(story, 2.2)
    story.join(2, 7, -0.4, 5.0)
    story.fault(1, "pause-worker", 1, 1.0, 1.001, 2.0)
    assert "F3" not in found(story)


def test_what_was_finished_before_the_pause_and_told_after_it_was_no_hostage() -> None:
    story = undisturbed()
    story.entries = [entry for entry in story.entries if entry.name != observer.FINISHED]
    story.fault(0, "pause-worker", 0, 0.119, 0.121, 3.5)
    story.of_worker(3.6, 0, observer.FINISHED, workflow="t", epoch=1, status="succeeded")
    story.beat(1, 1.0, 5.0)
    assert "F3" not in found(story)


def test_a_standstill_with_healthy_workers_is_named() -> None:
    story = undisturbed()
    story.beat(1, 1.0, 6.0)
    story.accept("u", 0.2, number=2)
    message = found(story, calm=(0.5, 5.0))["L1"]
    assert "Nothing advanced for 4.80 s" in message
    assert "1 accepted workflows waited (u among them)" in message


def test_a_standstill_after_which_work_goes_on_is_named_too() -> None:
    story = killed()
    story.accept("u", 0.2, number=2)
    story.claim("u", 1, 1, 5.0)
    story.record("u", 1, 1, 5.1, "1", "debit")
    story.beat(1, 2.0, 6.0)
    assert "Nothing advanced" in found(story)["L1"]


def test_no_progress_is_due_while_the_server_is_away_or_nobody_is_healthy() -> None:
    story = undisturbed()
    story.beat(1, 1.0, 6.0)
    story.accept("u", 0.2, number=2)
    story.fault(0, "restart-postgres", 0, 0.3, 0.4, 2.0)
    assert "L1" not in found(story, calm=(4.0, 5.0))
    story = undisturbed()
    story.accept("u", 0.2, number=2)
    story.fault(0, "pause-worker", 0, 0.3, 0.4, 4.5)
    story.fault(1, "kill-worker", 1, 0.3, 0.4)
    story.exit(1, 0.4)
    assert "L1" not in found(story, calm=(4.0, 5.0))


def test_deadlocks_that_were_made_explain_a_second_each() -> None:
    def standstill(*overs: float) -> bool:
        story = undisturbed()
        story.beat(1, 1.0, 7.0)
        story.accept("u", 0.2, number=2)
        for index, over in enumerate(overs):
            story.fault(index, "deadlock", 0, 0.15, over, over)
        return "L1" in found(story, calm=(0.5, 5.5))

    assert standstill() and standstill(0.19), "none, and one that was over before"
    assert standstill(2.0) and not standstill(2.0, 3.0), "5.3 s, of which 4 are explained anyhow"


def after_the_claim(story: Story, moment: float) -> None:
    """The successor comes only at `moment`."""
    late = moment - 1.020
    story.entries = [
        replace(entry, at=entry.at + late, facts={**entry.facts, **shifted(entry.facts, late)})
        if entry.facts.get("epoch") == 2 or entry.name in (observer.TOOK_OVER, observer.READ)
        else entry
        for entry in story.entries
    ]
    story.checkpoints = [replace(row, at=row.at + late, value=row.value) for row in story.checkpoints]


def shifted(facts: history.Facts, late: float) -> dict[str, float]:
    return {key: facts[key] + late for key in ("claimed_at", "at") if key in facts}
