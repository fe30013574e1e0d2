"""The runs of a campaign as they end, one JSON line each, so that a campaign that is killed is readable all the same.

The first line is the campaign without runs. A line is written whole or, by whoever is killed in it, cut short: then it is
the last one, and left out.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from duress.scenarios.conclusion import conclude
from duress.scenarios.result import Campaign, Run

STREAM_FILE: Final = "runs.jsonl"


class Stream:
    """Writes them. The file stays until whoever has written the whole result removes it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / STREAM_FILE
        self._file = -1

    def begin(self, campaign: Campaign) -> None:
        """Once, before the first run."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        self._write(campaign)

    def add(self, run: Run) -> None:
        """A run that has ended."""
        self._write(run)

    def close(self) -> None:
        """No more runs."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, part: Campaign | Run) -> None:
        line = memoryview(msgspec.json.encode(part) + b"\n")
        while line:  # a full disk raises; a short write goes on
            line = line[os.write(self._file, line) :]


def read_stream(file: Path) -> Campaign:
    """The campaign so far. Raises msgspec.MsgspecError and OSError."""
    first, *lines = _lines(file)
    campaign = msgspec.json.decode(first, type=Campaign)
    decoder = msgspec.json.Decoder(Run)
    runs = sorted((decoder.decode(line) for line in lines), key=lambda run: run.seed)
    seconds = max(campaign.seconds, file.stat().st_mtime - campaign.started_at)
    return conclude(msgspec.structs.replace(campaign, seconds=seconds), runs)


def _lines(file: Path) -> Sequence[bytes]:
    *whole, _cut_short = file.read_bytes().split(b"\n")
    return whole or [b""]
