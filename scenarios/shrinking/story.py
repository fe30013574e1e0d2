"""What happened in a small run, told briefly: the events that matter, numbered, with who they happened to, what that worker
believed, and the SQL; and what the nearest run that breaks nothing did instead.

It is read from the history, as every verdict is, and from the exchanges with the server.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import Entry, Evidence
from duress.scenarios.observed import Observed
from duress.scenarios.shrinking import sql
from duress.scenarios.shrinking.neighbours import Neighbour

LONGEST: Final = 15  # events
AFTERWARDS: Final = 5  # events of the other run, from where it differs

_OF_WORKERS: Final = frozenset({observer.TOOK_OVER, observer.WORKER_LOST})
_FAULTS: Final = frozenset({history.FAULT_EFFECT, history.FAULT_HEALED})
_SILENT: Final = frozenset({observer.CHECKPOINTING, observer.FINISHING, observer.UNWOUND, observer.STARTING})
_LEASES: Final = frozenset({observer.WORKER_JOINED, observer.WORKER_RENEWED})
_STEP: Final = re.compile(r"\bstep (\S+) (?:\(|of )", re.IGNORECASE)
# What an entry of a step is called where several of one are told in one line.
_DEEDS: Final = {
    observer.STARTED: "starts",
    observer.ENDED: "its body ends",
    observer.COMMITTING: "sends COMMIT",
    observer.CHECKPOINTED: "the checkpoint is durable",
    observer.AMBIGUOUS: "the connection is gone during COMMIT",
    observer.FIRED: "the time has come",
    observer.FENCED: "is refused: another has claimed it",
}


@dataclass(slots=True)
class _Event:
    """One numbered event: entries in a row that say one thing."""

    at: float
    who: str
    what: str
    belief: str = ""
    sql: str = ""
    weight: int = 1  # the least goes first where there are too many
    group: tuple[object, ...] = ()
    names: list[str] = field(default_factory=list)

    @property
    def gist(self) -> tuple[str, str]:
        """Equal in two runs where the same happens, whenever."""
        return self.who, self.what

    def lines(self, number: int) -> Iterator[str]:
        belief = f"  [{self.belief}]" if self.belief else ""
        yield f"{number:2}. {self.at:8.4f} s  {self.who:<9}  {self.what}{belief}"
        if self.sql:
            yield f"{'':27}{self.sql}"


def story(observed: Observed, workflow: str | None, message: str) -> tuple[str, ...]:
    """The events of a run that broke a promise, which `message` names, to this workflow if it is about one."""
    events = _few(_events(observed, workflow, message))
    lines = [line for number, event in enumerate(events, 1) for line in event.lines(number)]
    return (*lines, f"    broken: {message}")


def instead(observed: Observed, near: Neighbour, workflow: str | None) -> tuple[str, ...]:
    """From where on the other run goes another way, and which."""
    ours = [event.gist for event in _events(observed, workflow, "")]
    theirs = _events(near.observed, workflow, "")
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1].gist, zip(ours, theirs, strict=False)))
    told = theirs[same : same + AFTERWARDS]
    if not theirs:
        return (f"without {near.without} nothing is broken; the workflow is not even begun",)
    if not told:
        return (f"without {near.without} nothing is broken: there the run ends after event {same}",)
    lines = [line for number, event in enumerate(told, same + 1) for line in event.lines(number)]
    if rest := len(theirs) - same - len(told):
        lines.append(f"    … and {rest} more, and nothing is broken")
    return (f"without {near.without} nothing is broken; then, from event {same + 1} on:", *lines)


def _events(observed: Observed, workflow: str | None, message: str) -> list[_Event]:
    """All that has to do with the workflow, or with any, and with workers and faults."""
    evidence = observed.evidence
    named = _STEP.search(message)
    leases = _Leases(evidence)
    statements = sql.Statements(evidence.history, observed.simulated)
    events: list[_Event] = []
    for entry in evidence.history:
        leases.see(entry)
        said = statements.until(entry)  # also of what is not told: it is not said again for what is
        if not _matters(entry, workflow):
            continue
        event = _event(entry, leases, None if named is None else named[1])
        event.sql = said
        last = events[-1] if events else None
        if last is not None and event.group and last.group == event.group:
            _join(last, event)
        else:
            events.append(event)
    return _trimmed(events)


def _matters(entry: Entry, workflow: str | None) -> bool:
    if entry.name in _FAULTS or entry.name in _OF_WORKERS:
        return True
    if entry.name == history.EXITED:
        return not entry.facts.get("planned")
    if entry.name == history.ALWAYS:
        return not entry.facts.get("holds")
    about = entry.facts.get("workflow")
    return about is not None and entry.name not in _SILENT and workflow in (None, about)


def _event(entry: Entry, leases: "_Leases", step: str | None) -> _Event:
    facts = entry.facts
    if entry.name in _FAULTS:
        struck = "" if facts.get("worker") is None else f" of worker {facts['worker']}"
        took = entry.name == history.FAULT_EFFECT
        seen = f": {facts['confirmed_by']}" if took and facts.get("confirmed_by") else ""
        what = f"{facts['kind']}{struck} {'takes effect' if took else 'is healed'}{seen}"
        return _Event(entry.at, "fault", what, weight=9 if took else 2)
    if entry.name == history.ALWAYS:
        return _Event(entry.at, entry.source, f"finds that this does not hold: {facts.get('what')}", weight=10)
    if entry.name == observer.TOOK_OVER:
        what = f"takes over incarnation {facts.get('victim')}, by its {facts.get('reason')}"
        return _Event(entry.at, entry.source, what, belief=leases.of(entry), weight=6)
    if "step" not in facts or facts.get("step") is None:
        return _of_workflow(entry, leases)
    return _of_step(entry, leases, step)


def _of_workflow(entry: Entry, leases: "_Leases") -> _Event:
    facts, about = entry.facts, entry.facts.get("workflow", "")
    words = {
        observer.ACCEPTED: f"{about} is accepted" + (", and was there already" if facts.get("existed") else ""),
        observer.CLAIMED: f"claims {about}; {facts.get('checkpoints')} checkpoints come along",
        observer.FINISHED: f"{about} is finished: {facts.get('status')}",
        observer.READ: f"reads the outcome of {about}: {facts.get('status')}, {str(facts.get('digest'))[:6]}",
        observer.SUSPENDED: f"suspends {about}",
        observer.FENCED: f"is refused {about}: another has claimed it",
        observer.RELEASED: f"hands {about} back",
        observer.WORKER_LOST: "learns that it was declared dead",
        history.EXITED: f"worker {facts.get('worker')} ended by itself",
    }
    what = words.get(entry.name, f"{entry.name} {about}")
    weight = {observer.ACCEPTED: 3, observer.CLAIMED: 7, observer.FENCED: 8, observer.READ: 2}.get(entry.name, 5)
    group = (entry.name, about, what) if entry.name in {observer.READ, observer.ACCEPTED} else ()
    return _Event(entry.at, entry.source, what, leases.of(entry), weight=weight, group=group, names=[])


def _of_step(entry: Entry, leases: "_Leases", step: str | None) -> _Event:
    facts = entry.facts
    who, name = entry.source, f"{facts.get('name') or facts.get('purpose') or 'step'} (step {facts['step']})"
    epoch, about = facts.get("epoch"), facts.get("workflow")
    if entry.name == observer.REPLAYED:
        return _Event(
            entry.at, who, f"replays {name}", leases.of(entry), group=("replay", who, about, epoch), names=[name]
        )
    if entry.name == history.RECEIVED:
        done = "applied" if facts.get("applied") else "known already, not applied again"
        what = f"attempt {facts.get('attempt')} of {name} under key {facts.get('key')}: {done}"
        return _Event(entry.at, who, what, f"epoch {epoch}", weight=3 + 4 * (step == facts["step"]))
    deed = _DEEDS.get(entry.name, entry.name)
    if entry.name == observer.RESOLVED:
        deed = f"finds that the COMMIT {'had' if facts.get('present') else 'had not'} happened"
    if entry.name == observer.STARTED and facts.get("attempt", 1) != 1:
        deed += f" (attempt {facts['attempt']})"
    group = ("step", who, about, epoch, facts["step"])
    weight = 6 if entry.name in {observer.AMBIGUOUS, observer.RESOLVED, observer.FENCED} else 3
    return _Event(
        entry.at, who, f"{name}: {deed}", leases.of(entry), weight=weight + 4 * (step == facts["step"]), group=group
    )


def _join(last: _Event, event: _Event) -> None:
    """Say in one line what the two say."""
    if event.names:
        last.names += event.names
        last.what = f"replays {', '.join(last.names)}"
    elif event.group[0] == "step":
        last.what += ", " + event.what.partition(": ")[2]
    last.weight = max(last.weight, event.weight)
    last.belief = event.belief or last.belief
    last.sql = "; ".join(filter(None, (last.sql, event.sql)))


def _trimmed(events: list[_Event]) -> list[_Event]:
    """Without the outcomes that are read over and over."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for event in events:
        if event.what.startswith("reads the outcome") and event.gist in seen:
            continue
        seen.add(event.gist)
        kept.append(event)
    return kept


def _few(events: Sequence[_Event]) -> list[_Event]:
    """The weightiest, in their order."""
    if len(events) <= LONGEST:
        return list(events)
    ranked = sorted(range(len(events)), key=lambda place: (-events[place].weight, place))
    kept = set(ranked[:LONGEST])
    return [event for place, event in enumerate(events) if place in kept]


class _Leases:
    """Until when each worker believes that it may write: what its last renewal told it, in seconds since the workload began."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._until: dict[str, float] = {}

    def see(self, entry: Entry) -> None:
        until = entry.facts.get("lease_until")
        if entry.name in _LEASES and isinstance(until, int | float):
            self._until[entry.source] = self._evidence.when(until)

    def of(self, entry: Entry) -> str:
        """What the worker of the entry believes when it happens."""
        epoch = entry.facts.get("epoch")
        parts = [] if epoch is None else [f"epoch {epoch}"]
        if entry.source in self._until:
            parts.append(f"lease until {self._until[entry.source]:.3f} s")
        return ", ".join(parts)


def numbered(lines: Iterable[str]) -> int:
    """How many events a story tells."""
    return sum(1 for line in lines if re.match(r" *\d+\. ", line))
