"""Each invariant names what is wrong in a broken run."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from stories import OFFSET, Story, found, killed, paused, undisturbed

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import WorkflowRow
from duress.scenarios.invariants import INVARIANTS, MOST_FINDINGS, MissingTable, UnknownInvariant, judge, titles

# W


def twice_there(story: Story) -> None:
    story.workflows.append(WorkflowRow(2, "t", "transfer", "succeeded", '"done"', 1))


def thrice_there(story: Story) -> None:
    story.workflows += [WorkflowRow(number, "t", "transfer", "open", None, 0) for number in (2, 3)]


def read_differently(story: Story) -> None:
    story.read("t", 0.500, '"declined"')


def outcome_replaced(story: Story) -> None:
    story.workflows[0] = replace(story.workflows[0], outcome='"declined"')
    story.entries = [entry for entry in story.entries if entry.name != observer.FINISHED]


def finished_twice(story: Story) -> None:
    story.of_worker(0.300, 0, observer.FINISHED, workflow="t", epoch=1, status="succeeded")


def left_open(story: Story) -> None:
    story.accept("u", 0.3, number=2)


def forgotten(story: Story) -> None:
    story.accept("u", 0.3, number=2)
    story.workflows.pop()


# S


def recorded_twice(story: Story) -> None:
    story.checkpoints.append(replace(row(story, "2"), epoch=1))


def overwritten(story: Story) -> None:
    change(story, "1", epoch=2, at=row(story, "1").at + 0.060)


def vanished(story: Story) -> None:
    story.checkpoints.remove(row(story, "3"))


def run_again_by_a_successor(story: Story) -> None:
    story.start_body("t", 2, 1, 0.086, "1", "debit")


def run_again_by_the_same_claim(story: Story) -> None:
    story.start_body("t", 2, 1, 0.115, "2", "charge")


def entered_twice(story: Story) -> None:
    story.move("t", 2, 0.087, "1", "debit", "a", -100)


def not_entered(story: Story) -> None:
    story.ledger = [line for line in story.ledger if line["step"] != "4"]


def entered_without_checkpoint(story: Story) -> None:
    story.move("t", 2, 0.150, "9", "credit", "b", 100)


def other_key(story: Story) -> None:
    story.request("t", 2, 0.096, "2", key="t:2:2")


def applied_twice(story: Story) -> None:
    story.request("t", 2, 0.096, "2", applied=True)


def shared_key(story: Story) -> None:
    story.request("t", 2, 0.160, "4", key="t:2")


def key_of_a_transaction_differs(story: Story) -> None:
    facts = {"workflow": "t", "epoch": 2, "step": "4", "name": "credit", "attempt": 2, "key": "t:4:again"}
    story.of_worker(0.139, 1, observer.STARTED, **facts)


def ahead_of_its_checkpoint(story: Story) -> None:
    change(story, "2", at=row(story, "2").at + 0.060)


def ahead_of_a_checkpoint_that_never_came(story: Story) -> None:
    story.checkpoints.remove(row(story, "2"))
    story.entries = [
        entry for entry in story.entries if entry.name != observer.CHECKPOINTED or entry.facts["step"] != "2"
    ]


def another_step_at_its_place(story: Story) -> None:
    rename_replay(story, "screen")


def skipped_a_recorded_step(story: Story) -> None:
    story.entries = [entry for entry in story.entries if entry.name != observer.REPLAYED]


def failed_by_a_lost_race(story: Story) -> None:
    change(story, "2", failed=True, value='{"type":"DeadlockDetected","message":"17 cents"}')


def failed_by_a_lost_connection(story: Story) -> None:
    change(story, "2", failed=True, value='{"type":"OperationalError","message":"17 cents"}')


# F


def written_by_the_old_owner(story: Story) -> None:
    change(story, "2", epoch=1, owner=1)


def finished_by_the_old_owner(story: Story) -> None:
    story.workflows[0] = replace(story.workflows[0], epoch=1)


def finished_by_the_dead(story: Story) -> None:
    """Incarnation 1 was declared dead at 0.070; nobody had claimed the workflow again."""
    story.workflows[0] = replace(story.workflows[0], owner=1, finished_at=0.0725 + OFFSET)


def claimed_by_the_dead(story: Story) -> None:
    story.incarnations[0] = 1
    story.claim("t", 3, 0, 0.200)


def claimed_from_a_living_owner(story: Story) -> None:
    story.entries = [entry for entry in story.entries if entry.source != "harness" or entry.name == history.SPAWNED]
    story.incarnations[0] = 1
    story.beat(0, 0.0, 0.1)


def claimed_from_a_living_owner_while_others_die(story: Story) -> None:
    claimed_from_a_living_owner(story)
    story.join(2, 7, -0.4, 0.05)
    story.fault(0, "kill-worker", 2, 0.040, 0.041)
    story.fault(1, "kill-worker", 0, -0.800, -0.790)  # the process before this one
    story.incarnations.pop(2)


def claimed_after_the_owner_came_back(story: Story) -> None:
    claimed_from_a_living_owner(story)
    story.fault(0, "restart-postgres", 1, 0.021, 0.022, 0.024)
    story.beat(0, 0.048, 0.050)


def claimed_before_the_kill(story: Story) -> None:
    for place, entry in enumerate(story.entries):
        if entry.name == observer.CLAIMED and entry.facts["epoch"] == 2:
            story.entries[place] = replace(entry, facts={**entry.facts, "claimed_at": 0.030 + OFFSET})


# T


def woken_too_soon(story: Story) -> None:
    about = {"workflow": "t", "epoch": 2, "step": "3", "name": "sleep"}
    story.of_worker(0.140, 1, observer.FIRED, **about, due_at=0.135 + OFFSET, at=0.130 + OFFSET)


def written_in_its_sleep(story: Story) -> None:
    change(story, "4", at=0.131 + OFFSET)


# D


def unbalanced(story: Story) -> None:
    story.ledger.pop()


def balance_without_a_line(story: Story) -> None:
    story.balances["b"] += 100


def credited_before_the_debit(story: Story) -> None:
    for line in story.ledger:
        if line["step"] == "1":
            line["committed_at"] = line["at"] = 0.9 + OFFSET


def done_without_credit(story: Story) -> None:
    story.balances["b"] -= 100
    story.ledger = [line for line in story.ledger if line["step"] != "4"]


def declined_without_refund(story: Story) -> None:
    story.workflows[0] = replace(story.workflows[0], outcome='"declined"')


BROKEN: tuple[tuple[str, Callable[[Story], None], str], ...] = (
    ("W1", twice_there, "under the numbers 1 and 2"),
    ("W1", thrice_there, "exists 3 times"),
    ("W2", read_differently, "its outcome changed"),
    ("W2", outcome_replaced, "its outcome changed"),
    ("W2", finished_twice, "as succeeded under epoch 1"),
    ("W3", left_open, "Workflow u was accepted at 0.3000 s and has no outcome"),
    ("W3", forgotten, "the database does not know it"),
    ("S1", recorded_twice, "has 2 checkpoints"),
    ("S1", overwritten, "written under epoch 2"),
    ("S1", vanished, "there is none at the end"),
    ("S2", run_again_by_a_successor, "claimed 45.0 ms after its checkpoint was durable under epoch 1"),
    ("S2", run_again_by_the_same_claim, "after the same claim had its outcome"),
    ("S3", entered_twice, "2 times, under the epochs 1 and 2"),
    ("S3", not_entered, "its effects are not in the ledger"),
    ("S3", entered_without_checkpoint, "it has no checkpoint"),
    ("S4", other_key, "carried 2 keys"),
    ("S4", applied_twice, "applied step 2 of t 2 times"),
    ("S4", shared_key, "have the same key"),
    ("S4", key_of_a_transaction_differs, "carried 2 keys"),
    ("S5", ahead_of_its_checkpoint, "before the checkpoint of step 2 was durable"),
    ("S5", ahead_of_a_checkpoint_that_never_came, "before the checkpoint of step 2 was durable"),
    ("S6", another_step_at_its_place, "asked for screen as its step 1"),
    ("S6", skipped_a_recorded_step, "without asking for its step 1 (debit)"),
    (
        "S7",
        failed_by_a_lost_race,
        "Step 2 (charge) of t failed by DeadlockDetected under epoch 2, and that was recorded",
    ),
    ("S7", failed_by_a_lost_connection, "failed by OperationalError under epoch 2"),
    ("F1", written_by_the_old_owner, "after worker 1 had claimed the workflow under epoch 2"),
    ("F1", finished_by_the_old_owner, "The outcome of t was written under epoch 1"),
    ("F1", finished_by_the_dead, "by incarnation 1, 2.5 ms after it was declared dead"),
    ("F1", claimed_by_the_dead, "was declared dead"),
    ("F2", claimed_from_a_living_owner, "while worker 0 (incarnation 1) held it under epoch 1"),
    ("F2", claimed_from_a_living_owner_while_others_die, "while worker 0 (incarnation 1) held it"),
    ("F2", claimed_after_the_owner_came_back, "while worker 0 (incarnation 1) held it"),
    ("F2", claimed_before_the_kill, "its lease had"),
    ("T1", woken_too_soon, "was over under epoch 2 (worker 1) 5.0 ms before its time"),
    ("T1", written_in_its_sleep, "Step 4 (credit) of t was durable under epoch 2 4.0 ms before the sleep of step 3"),
    ("D1", unbalanced, "must sum to zero"),
    ("D1", balance_without_a_line, "+100 cents"),
    ("D1", credited_before_the_debit, "had given out 100 cents more than it had taken"),
    ("D1", done_without_credit, "100 cents were debited, 0 credited"),
    ("D1", declined_without_refund, "0 refunded and 100 credited"),
)


@pytest.mark.parametrize(("invariant", "damage", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_an_invariant_names_what_breaks_it(invariant: str, damage: Callable[[Story], None], words: str) -> None:
    story = killed()
    damage(story)
    message = found(story).get(invariant, "")
    assert words in message


def test_a_calm_phase_without_any_worker_convicts_nobody() -> None:
    story = undisturbed()
    story.accept("u", 0.2, number=2)
    for worker in (0, 1):
        story.exit(worker, 0.3)
    assert "W3" not in found(story)


def test_a_workflow_that_exists_twice_is_not_judged_as_one() -> None:
    """Of two workflows with one id, the entries of one would convict the other."""
    story = killed()
    twice_there(story)
    recorded_twice(story)
    run_again_by_a_successor(story)
    assert set(found(story)) == {"W1"}


def test_findings_are_bounded() -> None:
    story = undisturbed()
    for number in range(2, 100):
        story.accept(f"u{number}", 0.2, number=number)
    assert len(judge(story.evidence(), ["W3"])) == MOST_FINDINGS


def test_an_unknown_invariant_is_refused_by_name() -> None:
    with pytest.raises(UnknownInvariant, match="'S9'"):
        judge(undisturbed().evidence(), ["S9"])
    with pytest.raises(UnknownInvariant, match="'S9'"):
        titles(["S9"])
    assert titles(["S2", "D1"]) == {"S2": "no-rerun", "D1": "conserved"}


@pytest.mark.parametrize(("invariant", "table"), [("D1", "account"), ("D1", "ledger"), ("S3", "ledger")])
def test_an_invariant_without_its_table_is_an_error_and_no_pass(invariant: str, table: str) -> None:
    evidence = killed().evidence()
    del evidence.final.tables[table]
    with pytest.raises(MissingTable, match=f"{invariant} .* table '{table}'"):
        judge(evidence, [invariant])


def test_a_worker_declared_dead_while_it_lived_is_named_even_if_its_work_is_claimed_late() -> None:
    story = paused()
    story.beat(0, 0.020, 0.021)  # the lease goes on to 1.020
    story.take_over(0.900, 1, 1, "lease")
    assert "was declared dead at 0.9010 s by worker 1 (lease)" in found(story)["F2"]
    story = paused()
    assert "F2" not in found(story)


def test_each_invariant_can_be_checked_alone() -> None:
    evidence = killed().evidence()
    assert all(invariant.check(evidence) == [] for invariant in INVARIANTS.values())


def test_two_keys_are_one_finding() -> None:
    story = killed()
    other_key(story)
    assert len(judge(story.evidence(), ["S4"])) == 1


def row(story: Story, step: str) -> history.CheckpointRow:
    return next(row for row in story.checkpoints if row.step == step)


def change(story: Story, step: str, **fields: object) -> None:
    story.checkpoints = [
        replace(one, **fields) if one.step == step else one  # type: ignore[arg-type]
        for one in story.checkpoints
    ]


def rename_replay(story: Story, name: str) -> None:
    story.entries = [
        replace(entry, facts={**entry.facts, "name": name}) if entry.name == observer.REPLAYED else entry
        for entry in story.entries
    ]
