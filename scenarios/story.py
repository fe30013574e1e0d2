"""What happened to one workflow, in the words of the history: so that a violation can be understood where it is shown."""

from collections.abc import Iterable, Sequence
from typing import Final

from duress.engine import observer
from duress.scenarios import history
from duress.scenarios.history import Entry

LONGEST: Final = 40  # lines; the beginning and the end are kept
_SILENT: Final = frozenset({observer.CHECKPOINTING, observer.FINISHING, observer.ENDED})  # a line after them says more
_FAULTS: Final = frozenset({history.FAULT_EFFECT, history.FAULT_HEALED})
_TOLD: Final = ("name", "step", "attempt", "status", "present", "existed", "key", "applied", "checkpoints", "reason")


def story(entries: Iterable[Entry], workflow: str | None) -> tuple[str, ...]:
    """One line for each observation of the workflow, and for each fault while it was under way; none without a workflow."""
    if workflow is None:
        return ()
    ordered = list(entries)
    own = [place for place, entry in enumerate(ordered) if entry.facts.get("workflow") == workflow]
    if not own:
        return ()
    lines = [
        _line(entry)
        for entry in ordered[own[0] : own[-1] + 1]
        if (entry.facts.get("workflow") == workflow and entry.name not in _SILENT) or entry.name in _FAULTS
    ]
    return _shortened(lines)


def _line(entry: Entry) -> str:
    facts = entry.facts
    if entry.name in _FAULTS:
        victim = "the server" if facts.get("worker") is None else f"worker {facts['worker']}"
        what = "took effect" if entry.name == history.FAULT_EFFECT else "was healed"
        return f"{entry.at:9.4f} s  {'fault':<9}  {facts['kind']} of {victim} {what}"
    told = [f"{name} {facts[name]}" for name in _TOLD if facts.get(name) not in (None, "")]
    epoch = [f"epoch {facts['epoch']}"] if facts.get("epoch") is not None else []
    return f"{entry.at:9.4f} s  {entry.source:<9}  {entry.name}  {', '.join([*told, *epoch])}".rstrip()


def _shortened(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) <= LONGEST:
        return tuple(lines)
    half = LONGEST // 2
    return (*lines[:half], f"… {len(lines) - 2 * half} more …", *lines[-half:])
