"""S1 to S6: what is promised about the steps of one workflow.

The order of entries of one worker is the order in which they happened. Between workers only the database's clock
counts: a checkpoint's time is taken while its writer holds the workflow's row, a claim's while the claimer does, so a
claim with a later time was made with the checkpoint durable.
"""

import json
from collections import defaultdict
from collections.abc import Iterator

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import CheckpointRow, Entry
from duress.scenarios.invariants.invariant import Invariant, Sighting, later, seconds
from duress.scenarios.reading import CLOCKS, Reading

# A step that was answered in this claim; the next may start.
DURABLE = frozenset({observer.CHECKPOINTED, observer.REPLAYED})
Place = tuple[str, int]  # the path of a task, and the ordinal of a step in it


def checkpoint_once(reading: Reading) -> Iterator[Sighting]:
    for id_, steps in reading.checkpoints.items():
        for step, rows in steps.items():
            if len(rows) > 1 and len(reading.workflows[id_]) == 1:
                epochs = " and ".join(str(row.epoch) for row in rows)
                yield Sighting(
                    id_, f"Step {step} ({rows[0].name}) of {id_} has {len(rows)} checkpoints, of the epochs {epochs}."
                )
    for id_, entries in reading.entries.items():
        for entry in entries:
            if entry.name == observer.CHECKPOINTED:
                yield from _unchanged(reading, id_, entry)
            elif entry.name == observer.REPLAYED:
                yield from _not_younger(reading, id_, entry)


def _unchanged(reading: Reading, id_: str, entry: Entry) -> Iterator[Sighting]:
    """What a claim was told that it wrote is what stands there."""
    step, epoch = entry.facts["step"], entry.facts["epoch"]
    rows = reading.checkpoints[id_][step] if id_ in reading.checkpoints else []
    said = f"{_step(entry)} was durable under epoch {epoch} {seconds(entry.at)} ({entry.source})"
    if not rows:
        yield Sighting(id_, f"The checkpoint of {said}, and there is none at the end.")
    elif all(row.epoch != epoch for row in rows):
        yield Sighting(
            id_,
            f"The checkpoint of {said}, and the one that stands there at the end was written under epoch"
            f" {rows[0].epoch}.",
        )


def _not_younger(reading: Reading, id_: str, entry: Entry) -> Iterator[Sighting]:
    """A claim replays what was durable before it; a record that is younger was put in its place."""
    claim, row = reading.claim(id_, entry.facts["epoch"]), reading.row(id_, entry.facts["step"])
    if row is None:
        yield Sighting(
            id_, f"{_step(entry)} was replayed under epoch {entry.facts['epoch']}, and has no checkpoint at the end."
        )
    elif claim is not None and row.at > claim.claimed_at:
        yield Sighting(
            id_,
            f"{_step(entry)} was replayed under epoch {claim.epoch}, and the checkpoint that stands there at the end"
            f" was written {later(row.at - claim.claimed_at)} after that claim, under epoch {row.epoch}.",
        )


def no_rerun(reading: Reading) -> Iterator[Sighting]:
    for id_, entries in reading.entries.items():
        answered: set[tuple[str, int, str]] = set()  # source, epoch, step
        for entry in entries:
            if entry.name in DURABLE:
                answered.add((entry.source, entry.facts["epoch"], entry.facts["step"]))
            if entry.name != observer.STARTED:
                continue
            step, epoch = entry.facts["step"], entry.facts["epoch"]
            row, claim = reading.row(id_, step), reading.claim(id_, epoch)
            if row is not None and claim is not None and claim.claimed_at > row.at:
                yield Sighting(
                    id_,
                    f"The body of {_step(entry)} started under epoch {epoch} {seconds(entry.at)} ({entry.source}),"
                    f" claimed {later(claim.claimed_at - row.at)} after its checkpoint was durable under epoch"
                    f" {row.epoch}.",
                )
            elif (entry.source, epoch, step) in answered:
                yield Sighting(
                    id_,
                    f"The body of {_step(entry)} started again under epoch {epoch} {seconds(entry.at)}"
                    f" ({entry.source}), after the same claim had its outcome.",
                )


def effect_once(reading: Reading) -> Iterator[Sighting]:
    commits: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)  # (workflow, step) → commit → epoch
    for line in reading.evidence.final.tables["ledger"]:
        commits[line["workflow"], line["step"]][line["xact"]] = line["epoch"]
    for (id_, step), epochs in commits.items():
        row = reading.row(id_, step)
        what = f"step {step} ({row.name}) of {id_}" if row else f"step {step} of {id_}"
        if len(epochs) > 1:
            under = " and ".join(str(epoch) for epoch in epochs.values())
            yield Sighting(
                id_, f"The effects of {what} are in the ledger {len(epochs)} times, under the epochs {under}."
            )
        if row is None:
            yield Sighting(id_, f"The effects of {what} are in the ledger, and it has no checkpoint.")
        elif row.failed or row.kind != "transaction":
            yield Sighting(id_, f"The effects of {what} are in the ledger, and its checkpoint says that it failed.")
        elif row.epoch not in epochs.values():
            under = ", ".join(str(epoch) for epoch in epochs.values())
            yield Sighting(
                id_,
                f"The effects of {what} are in the ledger under epoch {under}, its checkpoint was written under epoch"
                f" {row.epoch}: they were not one commit.",
            )
    for row in reading.evidence.final.checkpoints:
        if row.kind == "transaction" and not row.failed and (row.workflow, row.step) not in commits:
            yield Sighting(
                row.workflow,
                f"Step {row.step} ({row.name}) of {row.workflow} was recorded under epoch {row.epoch}, and its effects"
                " are not in the ledger.",
            )


def same_key(reading: Reading) -> Iterator[Sighting]:
    attempts: dict[tuple[str, str], list[Entry]] = defaultdict(
        list
    )  # (workflow, step) → bodies, and requests of bodies
    for entry in reading.evidence.history:
        if entry.name in (observer.STARTED, history.RECEIVED):
            attempts[entry.facts["workflow"], entry.facts["step"]].append(entry)
    owners: dict[str, tuple[str, str]] = {}  # key → (workflow, step)
    for (id_, step), carriers in attempts.items():
        requests = [entry for entry in carriers if entry.name == history.RECEIVED]
        keys = sorted({entry.facts["key"] for entry in carriers})
        if len(keys) > 1:
            epochs = ", ".join(str(epoch) for epoch in sorted({entry.facts["epoch"] for entry in carriers}))
            yield Sighting(
                id_,
                f"The attempts of step {step} of {id_} (epochs {epochs}) carried {len(keys)} keys:"
                f" {', '.join(map(repr, keys[:3]))}.",
            )
        for key in keys:
            other = owners.setdefault(key, (id_, step))
            if other != (id_, step):
                yield Sighting(
                    id_, f"Step {step} of {id_} and step {other[1]} of {other[0]} have the same key {key!r}."
                )
        applied = sum(entry.facts["applied"] for entry in requests)
        if requests and applied != 1 and len(keys) == 1:
            yield Sighting(
                id_,
                f"The receiver applied step {step} of {id_} {applied} times in {len(requests)} attempts under the key"
                f" {keys[0]!r}.",
            )


def ordered(reading: Reading) -> Iterator[Sighting]:
    """Asks the rows, not the workers' word that a checkpoint is durable: that word is what may be wrong."""
    for id_, entries in reading.entries.items():
        mentioned = {entry.facts["step"] for entry in entries if entry.facts.get("step")}
        for entry in entries:
            if entry.name != observer.STARTED:
                continue
            path, ordinal = place(entry.facts["step"])
            before = (f"{path}{number}" for number in range(1, ordinal))
            late = [step for step in before if step in mentioned and not _durable_by(reading, id_, step, entry.at)]
            if late:
                yield Sighting(
                    id_,
                    f"The body of {_step(entry)} started under epoch {entry.facts['epoch']} {seconds(entry.at)}"
                    f" ({entry.source}), before the checkpoint of step {late[0]} was durable.",
                )


def _durable_by(reading: Reading, id_: str, step: str, moment: float) -> bool:
    row = reading.row(id_, step)
    return row is not None and reading.at(row.at) <= moment + CLOCKS


def same_path(reading: Reading) -> Iterator[Sighting]:
    for id_, entries in reading.entries.items():
        if _failed_by_name(reading, id_):
            continue
        replayed: dict[int, set[str]] = defaultdict(set)
        for entry in entries:
            facts = entry.facts
            row = reading.row(id_, facts["step"]) if facts.get("step") else None
            if entry.name == observer.REPLAYED:
                replayed[facts["epoch"]].add(facts["step"])
            if (
                row is not None
                and "name" in facts
                and facts["name"] != row.name
                and _recorded_before(reading, row, facts["epoch"])
            ):
                yield Sighting(
                    id_,
                    f"Under epoch {facts['epoch']} workflow {id_} asked for {facts['name']} as its step {row.step}"
                    f" {seconds(entry.at)} ({entry.source}), where {row.name} was recorded under epoch {row.epoch}; it"
                    " did not fail by NonDeterminism.",
                )
                break
            if entry.name == observer.FINISHED and facts["status"] == "succeeded":
                yield from _all_asked(reading, id_, facts["epoch"], replayed[facts["epoch"]])


def _all_asked(reading: Reading, id_: str, epoch: int, replayed: set[str]) -> Iterator[Sighting]:
    """A run that ended has asked for all that was recorded before it, but for what the losers of races did."""
    for step in reading.checkpoints.get(id_, {}):
        row = reading.row(id_, step)
        if row is not None and "/" not in step and step not in replayed and _recorded_before(reading, row, epoch):
            yield Sighting(
                id_,
                f"Workflow {id_} ended under epoch {epoch} without asking for its step {step} ({row.name}), which was"
                f" recorded under epoch {row.epoch}; it did not fail by NonDeterminism.",
            )


def _recorded_before(reading: Reading, row: CheckpointRow, epoch: int) -> bool:
    claim = reading.claim(row.workflow, epoch)
    return claim is not None and row.epoch < epoch and row.at < claim.claimed_at


def _failed_by_name(reading: Reading, id_: str) -> bool:
    for row in reading.workflows.get(id_, ()):
        if row.status == "failed" and row.outcome is not None:
            outcome = json.loads(row.outcome)
            if isinstance(outcome, dict) and outcome.get("type") == "NonDeterminism":
                return True
    return False


def place(step: str) -> Place:
    """The path of a step's task, with its final slash, and the step's ordinal in it."""
    path, slash, ordinal = step.rpartition("/")
    return path + slash, int(ordinal)


def _step(entry: Entry) -> str:
    name = entry.facts.get("name")
    return f"step {entry.facts['step']}{f' ({name})' if name else ''} of {entry.facts['workflow']}"


CHECKPOINT_ONCE = Invariant(
    "S1", "checkpoint-once", "At most one checkpoint per workflow and step; it never changes.", checkpoint_once
)
NO_RERUN = Invariant(
    "S2",
    "no-rerun",
    "No body starts under an epoch that was claimed after its checkpoint was durable; a paused worker may still start"
    " one under an older epoch.",
    no_rerun,
)
EFFECT_ONCE = Invariant(
    "S3",
    "effect-once",
    "The effects of a transaction step are in the ledger exactly once, with its checkpoint.",
    effect_once,
    tables=("ledger",),
)
SAME_KEY = Invariant(
    "S4", "same-key", "All attempts of a step carry one idempotency key; the receiver applied it once.", same_key
)
ORDERED = Invariant("S5", "ordered", "A step starts only after the checkpoints before it, as the code says.", ordered)
SAME_PATH = Invariant(
    "S6", "same-path", "A replay asks for the recorded steps in the recorded order, or fails by name.", same_path
)
