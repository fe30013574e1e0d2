"""Where the trace of a replayed run goes: to the terminal, or to a file."""

from collections.abc import Sequence
from pathlib import Path

import click

from duress.reports.perfetto import perfetto
from duress.reports.timeline import timeline
from duress.reports.trace import Trace, traces_of
from duress.scenarios.observed import Happening
from duress.scenarios.result import Campaign, Span

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

    def write(self, campaign: Campaign, folder: Path, token: str) -> None:
        """All runs of a campaign that were kept; `token` names the one that there may be without an end."""
        spans = {run.seed: run.spans for run in campaign.runs}
        for trace in traces_of(campaign, self._kept, token):
            self._write(trace, spans.get(trace.seed, ()), folder)
        self._kept.clear()

    def _write(self, trace: Trace, spans: Sequence[Span], folder: Path) -> None:
        files = [folder / f"seed-{trace.seed}.trace{suffix}" for suffix in (".txt", _JSON)] if self._to_folder else []
        if self._file is not None:
            files.append(self._file)
        elif not files:
            click.echo("\n".join(timeline(trace)) + "\n")
        for file in files:
            text = "\n".join(timeline(trace)) + "\n"
            try:
                file.write_bytes(perfetto(trace, spans) if file.suffix == _JSON else text.encode("utf-8", "replace"))
            except OSError as error:
                raise click.UsageError(f"the trace cannot be written to {file}: {error.strerror}") from error
            click.echo(f"trace: {file}", err=True)
