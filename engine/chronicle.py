"""What became of one workflow, in the order of time: who owned it under which epoch, what they recorded, how that ended.

Read from the tables, so it holds what is durable: how often a body was tried before its checkpoint is told to observers
only (see telemetry), and values are not shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .inspection import Details, Recorded

Event = Literal["accepted", "owner", "silent", "checkpoint", "owner lost", "running", "waiting", "ended"]


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened. `seconds` since the workflow was accepted; `after` since the moment before it."""

    at: datetime
    seconds: float
    after: float
    event: Event
    text: str  # one line
    epoch: int | None = None
    worker: str | None = None
    step: str | None = None


def chronicle(details: "Details") -> tuple[Moment, ...]:
    """The moments of a workflow, the first one its acceptance."""
    told: list[Moment] = []
    begin = before = details.summary.created_at
    # Checkpoints of one claim stay behind its head line, and what is said of its owner's end behind them.
    for at, event, text, epoch, worker, step in sorted(_events(details), key=lambda found: found[0]):
        told.append(
            Moment(at, (at - begin).total_seconds(), (at - before).total_seconds(), event, text, epoch, worker, step)
        )
        before = at
    return tuple(told)


_Found = tuple[datetime, Event, str, int | None, str | None, str | None]


def _events(details: "Details") -> Iterator[_Found]:
    summary = details.summary
    yield summary.created_at, "accepted", f"accepted for queue {summary.queue}", None, None, None
    previous: Recorded | None = None
    for record in details.checkpoints:
        if previous is None or record.epoch != previous.epoch:
            yield from _silent(previous.epoch if previous else 0, record.epoch, record.at)
            again = "" if previous is None else ", goes on behind what is recorded"
            yield record.at, "owner", f"{_owner(record.worker, record.epoch)}{again}", record.epoch, record.worker, None
        yield record.at, "checkpoint", _line(record), record.epoch, record.worker, record.step
        previous = record
    yield from _lost(details)
    yield from _now(details, previous.epoch if previous else 0)


def _silent(last: int, until: int, at: datetime) -> Iterator[_Found]:
    """Claims of which no checkpoint is left: their number is all that is known."""
    skipped = range(last + 1, until)
    if skipped:
        which = f"epoch {skipped[0]}" if len(skipped) == 1 else f"epochs {skipped[0]} to {skipped[-1]}"
        yield at, "silent", f"{which}: claimed, and nothing recorded", None, None, None


def _lost(details: "Details") -> Iterator[_Found]:
    """The ends of owners that were declared dead."""
    ends = {
        (record.worker_ended_at, record.worker, record.end_reason)
        for record in details.checkpoints
        if record.worker_ended_at is not None and record.end_reason not in (None, "left")
    }
    for ended_at, worker, reason in ends:
        if ended_at is not None and (details.summary.finished_at is None or ended_at <= details.summary.finished_at):
            yield ended_at, "owner lost", f"worker {worker} declared dead (by its {reason})", None, worker, None


def _now(details: "Details", last: int) -> Iterator[_Found]:
    """How it ended, or how it stands."""
    summary = details.summary
    if summary.finished_at is not None:
        yield from _silent(last, summary.epoch + (summary.status == "dead"), summary.finished_at)
        yield summary.finished_at, "ended", summary.status, summary.epoch, None, None
    elif summary.owner is not None and summary.claimed_at is not None:
        yield from _silent(last, summary.epoch, summary.claimed_at)
        latest = max([summary.claimed_at, *(record.at for record in details.checkpoints)])
        yield latest, "running", f"running: {_owner(summary.owner, summary.epoch)}", summary.epoch, summary.owner, None
    elif summary.ready_at is not None:
        when = "due" if summary.status == "sleeping" else "ready to be claimed"
        yield summary.ready_at, "waiting", f"{summary.status}: {when}", summary.epoch, None, None


def _owner(worker: str | None, epoch: int) -> str:
    return f"epoch {epoch}, worker {worker or '?'}"


def _line(record: "Recorded") -> str:
    outcome = "failed" if record.failed else "ok"
    what = "sleep" if record.kind == "sleep" else f"{record.kind} {record.name}"
    return f"{record.step}  {what}: {outcome}, {record.size} bytes"
