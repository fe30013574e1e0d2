"""The history of a run on disk, for whoever has to understand a failure: JSON lines, one observation each."""

from pathlib import Path

import msgspec

from duress.scenarios.history import Evidence


def save(evidence: Evidence, path: Path) -> None:
    """Write the history to `path`, after a line with what its times mean. Values of the user's are not in it."""
    head = {
        "seed": evidence.seed,
        "workers": evidence.workers,
        "lease": evidence.lease,
        "clock_offset": evidence.clock_offset,
        "clock_jumps": evidence.clock_jumps,
        "entries": len(evidence.history),
        "primary_lost_at": evidence.survived.at if evidence.survived else None,
    }
    path.write_bytes(msgspec.json.Encoder().encode_lines([head, *evidence.history]))
