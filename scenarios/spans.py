"""Stretches of the workers' lives, read from a history: for the worker × time chart."""

from dataclasses import dataclass
from typing import Literal

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import Entry, Evidence
from duress.scenarios.result import Span

What = Literal["alive", "paused", "owns", "step", "lease"]
LETS_GO = frozenset({observer.FINISHED, observer.SUSPENDED, observer.RELEASED, observer.FENCED})
ENDS_STEP = frozenset({observer.CHECKPOINTED, observer.FENCED})


@dataclass(slots=True)
class _Open:
    what: What
    worker: int
    start: float
    label: str
    epoch: int | None = None

    def span(self, end: float) -> Span:
        return Span(worker=self.worker, what=self.what, start=self.start, end=end, label=self.label, epoch=self.epoch)


class _Spans:
    """Spans that have ended, and those that have begun, by what would end them."""

    def __init__(self) -> None:
        self.closed: list[Span] = []
        self._open: dict[tuple[object, ...], _Open] = {}

    def open(self, key: tuple[object, ...], span: _Open) -> None:
        self.close(key, span.start)
        self._open[key] = span

    def close(self, key: tuple[object, ...], at: float) -> None:
        if (span := self._open.pop(key, None)) is not None:
            self.closed.append(span.span(at))

    def close_all(self, at: float, worker: int | None = None, workflow: str | None = None) -> None:
        """Close what is open, of one worker, and of one of its workflows."""
        for key, span in list(self._open.items()):
            if worker in (None, span.worker) and workflow in (None, key[-1]):
                self.close(key, at)

    def label(self, key: tuple[object, ...], label: str) -> None:
        if key in self._open:
            self._open[key].label = label


def spans(evidence: Evidence) -> tuple[Span, ...]:
    """All stretches of a run, ordered by worker and start."""
    found = _Spans()
    for entry in evidence.history:
        if entry.source == "harness":
            _of_process(found, entry)
        elif entry.source.startswith("worker "):
            _of_engine(found, entry, int(entry.source.removeprefix("worker ")))
    if evidence.history:
        found.close_all(evidence.history[-1].at)
    both = [*found.closed, *_leases(evidence)]
    return tuple(sorted(both, key=lambda span: (span.worker, span.start, span.what, span.end)))


def _of_process(found: _Spans, entry: Entry) -> None:
    worker = entry.facts.get("worker")
    if entry.name == history.SPAWNED:
        found.open(("alive", worker), _Open("alive", int(entry.facts["worker"]), entry.at, ""))
    elif entry.name == history.EXITED:
        found.close_all(entry.at, worker=worker)
    elif entry.name == history.FAULT_EFFECT and entry.facts["kind"] == "pause-worker":
        found.open(("paused", entry.facts["index"]), _Open("paused", int(entry.facts["worker"]), entry.at, ""))
    elif entry.name == history.FAULT_HEALED:
        found.close(("paused", entry.facts["index"]), entry.at)


def _of_engine(found: _Spans, entry: Entry, worker: int) -> None:
    facts = entry.facts
    workflow = str(facts.get("workflow"))
    if entry.name == observer.WORKER_JOINED:
        found.label(("alive", worker), str(facts["incarnation"]))
    elif entry.name == observer.CLAIMED:
        found.open(("owns", worker, workflow), _Open("owns", worker, entry.at, workflow, facts["epoch"]))
    elif entry.name == observer.STARTED:
        key = ("step", facts["step"], worker, workflow)
        found.open(key, _Open("step", worker, entry.at, str(facts["name"]), facts["epoch"]))
    elif entry.name in LETS_GO:
        found.close_all(entry.at, worker, workflow)
    if entry.name in ENDS_STEP:
        found.close(("step", facts.get("step"), worker, workflow), entry.at)


def _leases(evidence: Evidence) -> list[Span]:
    """Each incarnation's lease as one stretch, or several where it had run out before it was renewed."""
    found: list[Span] = []
    last: dict[str, int] = {}
    for entry in evidence.history:
        if entry.name not in (observer.WORKER_JOINED, observer.WORKER_RENEWED) or not entry.source.startswith(
            "worker "
        ):
            continue
        label, until = str(entry.facts["incarnation"]), evidence.when(float(entry.facts["lease_until"]))
        index = last.get(label)
        if index is not None and entry.at <= found[index].end:
            found[index] = Span(
                worker=found[index].worker, what="lease", start=found[index].start, end=until, label=label
            )
        else:
            worker = int(entry.source.removeprefix("worker "))
            last[label] = len(found)
            found.append(Span(worker=worker, what="lease", start=entry.at, end=max(until, entry.at), label=label))
    return found
