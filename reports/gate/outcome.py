"""What a gate found, as it is written to `gate.json` beside the result, and read again by the report."""

from pathlib import Path
from typing import Final, Literal

import msgspec

GATE_VERSION: Final = 1
GATE_FILE: Final = "gate.json"

State = Literal["kept", "missed", "undecided", "violated", "harness failed"]
Sort = Literal["safety", "coverage", "timing"]  # only timing may be tried again
WORST_FIRST: Final[tuple[State, ...]] = ("violated", "harness failed", "missed", "undecided", "kept")


class Attempt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was seen the first time, where a timing limit was tried again."""

    state: State
    seen: str


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit and what the campaign says to it."""

    limit: str  # where it stands in the file: "recovery.kill-worker.first.p95"
    sort: Sort
    state: State
    wanted: str  # "≤ 400 ms"
    seen: str  # "at most 310 ms (95 %), n = 80"
    advice: str = ""  # what to do if it was not kept; for a violation the line to paste
    before: Attempt | None = None


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All findings, in the order of the file."""

    version: int = GATE_VERSION
    state: State  # the worst of them
    limits: str  # the file's name
    baseline: str | None = None  # which campaign it was compared with
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()  # what a reader must know to trust the comparison


def save_gate(gate: Gate, directory: Path) -> Path:
    """Write `gate.json`."""
    file = directory / GATE_FILE
    file.write_bytes(msgspec.json.format(msgspec.json.encode(gate, order="deterministic"), indent=2) + b"\n")
    return file


def load_gate(directory: Path) -> Gate | None:
    """What a gate found here; None if none has judged it, or another version did."""
    file = directory / GATE_FILE
    if not file.exists():
        return None
    try:
        gate = msgspec.json.decode(file.read_bytes(), type=Gate)
    except msgspec.MsgspecError:
        return None
    return gate if gate.version == GATE_VERSION else None
