"""Where the trace of a replayed run goes: to the terminal, or to a file."""

from collections.abc import Sequence
from pathlib import Path

import click

from duress.reports.perfetto import perfetto
from duress.reports.timeline import timeline
from duress.reports.trace import trace_of
from duress.scenarios.observed import Happening
from duress.scenarios.result import Campaign, Run

_JSON = ".json"


class Traces:
    """Keeps the entries of runs until they have been judged, and then writes them. `wanted` is "-" or the name of a file."""

    def __init__(self, wanted: str, *, to_folder: bool) -> None:
        self._file = None if wanted == "-" else Path(wanted)
        self._to_folder = to_folder
        self._kept: dict[int, tuple[Happening, ...]] = {}
        if self._file is not None and not self._file.absolute().parent.is_dir():
            raise click.UsageError(f"--trace {wanted}: there is no folder {self._file.parent}")

    def keep(self, seed: int, entries: Sequence[Happening]) -> None:
        self._kept[seed] = tuple(entries)

    def write(self, campaign: Campaign, folder: Path) -> None:
        """All runs of a campaign that were kept."""
        for run in campaign.runs:
            if run.seed in self._kept:
                self._write(campaign, run, folder)

    def _write(self, campaign: Campaign, run: Run, folder: Path) -> None:
        trace = trace_of(campaign, run, self._kept.pop(run.seed))
        files = [folder / f"seed-{run.seed}.trace{suffix}" for suffix in (".txt", _JSON)] if self._to_folder else []
        if self._file is not None:
            files.append(self._file)
        elif not files:
            click.echo("\n".join(timeline(trace)) + "\n")
        for file in files:
            try:
                file.write_bytes(
                    perfetto(trace, run.spans)
                    if file.suffix == _JSON
                    else ("\n".join(timeline(trace)) + "\n").encode("utf-8", "replace")
                )
            except OSError as error:
                raise click.UsageError(f"the trace cannot be written to {file}: {error.strerror}") from error
            click.echo(f"trace: {file}", err=True)
