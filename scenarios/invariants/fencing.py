"""F1 to F3: what is promised about owners.

A worker owns a workflow from its claim until it lets go, its lease ends, or all its sessions do. Who owns it no more
writes nothing, and holds up nobody.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from duress.engine import observer
from duress.scenarios.invariants.invariant import Invariant, Sighting, later, seconds
from duress.scenarios.reading import CLOCKS, ENDING, OUTAGES, SEVERING, Holding, Incarnation, Reading, Seen

REAPED = 2.0  # seconds from a process's unplanned end until the harness has surely seen it
PATIENCE = 1.0  # seconds, beside the lease, after which a stale owner's work must be in other hands

# What an owner says when the database has taken a workflow back from it.
LET_GO = frozenset({observer.FINISHED, observer.SUSPENDED, observer.RELEASED})
# What an owner says when it goes on with a workflow.
WORKS = frozenset(
    {
        observer.STARTED,
        observer.ENDED,
        observer.CHECKPOINTING,
        observer.CHECKPOINTED,
        observer.COMMITTING,
        observer.FINISHING,
    }
)


def fenced(reading: Reading) -> Iterator[Sighting]:
    deaths = _deaths(reading)
    for row in reading.evidence.final.checkpoints:
        what = f"The checkpoint of step {row.step} ({row.name}) of {row.workflow} was written under epoch {row.epoch}"
        newer = [
            held
            for held in reading.holdings.get(row.workflow, ())
            if held.epoch > row.epoch and held.claimed_at < row.at
        ]
        if newer:
            claim = newer[0]
            yield Sighting(
                row.workflow,
                f"{what}, {later(row.at - claim.claimed_at)} after worker {claim.worker} had claimed the workflow under"
                f" epoch {claim.epoch}.",
            )
        elif (died := deaths.get(row.owner, math.inf)) < row.at:
            yield Sighting(
                row.workflow, f"{what} by incarnation {row.owner}, {later(row.at - died)} after it was declared dead."
            )
    yield from _finished_by_the_dead(reading, deaths)
    for held in reading.all_holdings():
        if (died := deaths.get(held.incarnation, math.inf)) < held.claimed_at:
            yield Sighting(
                held.workflow,
                f"Worker {held.worker} claimed {held.workflow} under epoch {held.epoch},"
                f" {later(held.claimed_at - died)} after its incarnation {held.incarnation} was declared dead.",
            )
    yield from _finished_under_the_newest(reading)


def _deaths(reading: Reading) -> dict[int, float]:
    """When incarnations were declared dead: from then on their workflows were free, by the database's clock."""
    deaths: dict[int, float] = {}
    for entry in reading.evidence.history:
        if entry.name == observer.TOOK_OVER:
            deaths.setdefault(entry.facts["victim"], entry.facts["at"])
    return deaths


def _finished_by_the_dead(reading: Reading, deaths: dict[int, float]) -> Iterator[Sighting]:
    for id_, rows in reading.workflows.items():
        for row in rows:
            if row.owner is None or row.finished_at is None or row.status not in ("succeeded", "failed"):
                continue  # whoever cancels or buries a workflow names the owner that it had
            if (died := deaths.get(row.owner, math.inf)) < row.finished_at:
                yield Sighting(
                    id_,
                    f"The outcome of {id_} was written under epoch {row.epoch} by incarnation {row.owner},"
                    f" {later(row.finished_at - died)} after it was declared dead.",
                )


def _finished_under_the_newest(reading: Reading) -> Iterator[Sighting]:
    for id_, entries in reading.entries.items():
        holdings = reading.holdings.get(id_)
        if not holdings:
            continue
        newest = holdings[-1]
        stale = [entry for entry in entries if entry.name == observer.FINISHED and entry.facts["epoch"] < newest.epoch]
        rows = reading.workflows.get(id_, [])
        if stale:
            yield Sighting(
                id_,
                f"The outcome of {id_} was written under epoch {stale[0].facts['epoch']} ({stale[0].source}, told"
                f" {seconds(stale[0].at)}), though worker {newest.worker} claimed the workflow under epoch"
                f" {newest.epoch} {seconds(newest.began)}.",
            )
        elif len(rows) == 1 and rows[0].status != "open" and rows[0].epoch < newest.epoch:
            yield Sighting(
                id_,
                f"The outcome of {id_} was written under epoch {rows[0].epoch}, though worker {newest.worker} claimed"
                f" the workflow under epoch {newest.epoch} {seconds(newest.began)}.",
            )


def one_owner(reading: Reading) -> Iterator[Sighting]:
    yield from _declared_dead_alive(reading)
    for id_, holdings in reading.holdings.items():
        for owner, successor in pairwise(holdings):
            if owner.incarnation == successor.incarnation:
                continue
            until = _lease_at(reading, owner.incarnation, successor.claimed_at)
            if until is not None and not _may_be_over(reading, owner, successor.claimed_at):
                yield Sighting(
                    id_,
                    f"Worker {successor.worker} claimed {id_} under epoch {successor.epoch}"
                    f" {seconds(successor.began)}, while worker {owner.worker} (incarnation {owner.incarnation}) held"
                    f" it under epoch {owner.epoch} and its lease had {later(until - successor.claimed_at)} to go.",
                )


def _declared_dead_alive(reading: Reading) -> Iterator[Sighting]:
    """The work of a living worker was set free, even if it was claimed only later."""
    for entry in reading.evidence.history:
        if entry.name != observer.TOOK_OVER or not entry.facts["workflows"]:
            continue
        victim, at = entry.facts["victim"], entry.facts["at"]
        until = _lease_at(reading, victim, at)
        if until is not None and not _may_be_gone(reading, reading.incarnations[victim], at):
            yield Sighting(
                None,
                f"Worker {reading.incarnations[victim].worker} (incarnation {victim}) was declared dead"
                f" {seconds(entry.at)} by {entry.source} ({entry.facts['reason']}), and {entry.facts['workflows']}"
                f" workflows were taken from it, while it lived and its lease had {later(until - at)} to go.",
            )


def _lease_at(reading: Reading, owner: int, moment_at: float) -> float | None:
    """Until when an incarnation's lease lasted, as granted before that moment; None if it was over or is not known."""
    incarnation = reading.incarnations.get(owner)
    if incarnation is None:
        return None
    granted = [until for until in incarnation.leases if until - reading.evidence.lease <= moment_at]
    until = max(granted, default=-math.inf)
    return until if until > moment_at + 0.001 else None


def _may_be_over(reading: Reading, owner: Holding, moment_at: float) -> bool:
    """Whether the ownership may have ended before its lease: the owner let go, or all its sessions were gone."""
    if any(entry.name in LET_GO and entry.facts["epoch"] == owner.epoch for entry in reading.entries[owner.workflow]):
        return True  # it says so itself; the word may come long after the deed
    if any(
        row.kind == "sleep" and row.epoch == owner.epoch and row.at <= moment_at
        for rows in reading.checkpoints[owner.workflow].values()
        for row in rows
    ):
        return True  # suspended, perhaps, and ended before it could say so
    return _may_be_gone(reading, reading.incarnations[owner.incarnation], moment_at)


def _may_be_gone(reading: Reading, incarnation: Incarnation, moment_at: float) -> bool:
    """Whether the incarnation may have ended, or lost all its sessions, before that moment."""
    moment, process = reading.at(moment_at) + CLOCKS, incarnation.process
    if incarnation.gone <= moment:
        return True
    if any(_may_have_ended(fault, reading, incarnation, moment) for fault in reading.faults):
        return True
    ended_on_purpose = any(
        fault.kind in ENDING and fault.worker == process.worker and process.began <= fault.asked <= process.ended
        for fault in reading.faults
    )
    return not ended_on_purpose and process.ended - REAPED <= moment


def _may_have_ended(fault: Seen, reading: Reading, incarnation: Incarnation, moment: float) -> bool:
    """Whether a fault may have ended all sessions of the incarnation before the moment."""
    if fault.asked > moment or fault.over < incarnation.joined:
        return False
    if fault.kind in ENDING:
        return fault.worker == incarnation.worker and fault.asked >= incarnation.process.began
    if fault.kind in OUTAGES or (fault.kind in SEVERING and fault.worker == incarnation.worker):
        # Over only when the worker has shown that it has sessions again: by a heartbeat.
        granted = (reading.at(until - reading.evidence.lease) for until in incarnation.leases)
        return not any(fault.over < renewed <= moment - CLOCKS for renewed in granted)
    return False


def no_hostage(reading: Reading) -> Iterator[Sighting]:
    bound = reading.evidence.lease + PATIENCE
    for fault in reading.faults:
        if fault.kind != "pause-worker" or fault.effect is None:
            continue
        deadline = fault.effect + bound
        if min(fault.over, reading.end) <= deadline + CLOCKS or not _others_healthy(reading, fault, deadline):
            continue
        for held in reading.held_at(fault.effect, fault.worker):
            if not _let_go_before(reading, held, fault) and not _free_by(reading, held, deadline):
                yield Sighting(
                    held.workflow,
                    f"Worker {fault.worker} was paused {seconds(fault.effect)} for {later(fault.over - fault.effect)},"
                    f" holding {held.workflow} under epoch {held.epoch}, and nobody had succeeded it within lease +"
                    f" {PATIENCE:g} s ({bound:g} s){_open_transaction(reading, held, fault.effect)}.",
                )


def _free_by(reading: Reading, held: Holding, deadline: float) -> bool:
    """Whether the owner was declared dead, or the workflow claimed, by then."""
    if reading.at(_deaths(reading).get(held.incarnation, math.inf)) <= deadline + CLOCKS:
        return True
    return any(
        other.epoch > held.epoch and reading.at(other.claimed_at) <= deadline + CLOCKS
        for other in reading.holdings[held.workflow]
    )


def _let_go_before(reading: Reading, held: Holding, pause: Seen) -> bool:
    """Whether the owner may have let go before its pause and told so after it: it did not go on with the workflow."""
    assert pause.effect is not None
    if held.how not in ("finished", "suspended", "released"):
        return False
    return not any(
        entry.name in WORKS and entry.facts["epoch"] == held.epoch and entry.at > pause.effect + CLOCKS
        for entry in reading.entries[held.workflow]
    )


def _others_healthy(reading: Reading, pause: Seen, deadline: float) -> bool:
    """Whether, but for this pause, nothing went wrong until the deadline, and another worker was well all the time.

    A fault that strikes another worker in between may strike it just when it takes over.
    """
    others = [one for one in reading.faults if one is not pause and one.asked <= deadline and one.over >= pause.asked]
    if any(one.kind in OUTAGES or one.asked >= pause.asked - CLOCKS for one in others):
        return False
    struck = {one.worker for one in (*others, pause)}
    return any(
        one.worker not in struck and one.joined <= pause.asked and one.gone > deadline
        for one in reading.incarnations.values()
    )


def _open_transaction(reading: Reading, held: Holding, moment: float) -> str:
    """Which transaction the owner had open, in words."""
    step = None
    for entry in reading.entries[held.workflow]:
        if entry.at > moment or entry.facts["epoch"] != held.epoch:
            continue
        if entry.name == observer.COMMITTING:
            step = entry.facts
        elif entry.name == observer.CHECKPOINTED:
            step = None
    return "" if step is None else f"; it had the transaction of step {step['step']} ({step['name']}) open"


FENCED = Invariant("F1", "fenced", "Nothing is written under an epoch older than the row's.", fenced)
ONE_OWNER = Invariant(
    "F2",
    "one-owner",
    "Between a claim and the end of its lease, or the death of all the owner's sessions, nobody else holds the"
    " workflow.",
    one_owner,
)
NO_HOSTAGE = Invariant(
    "F3", "no-hostage", "A stale owner's open transaction delays its successor at most lease + 1 s.", no_hostage
)
