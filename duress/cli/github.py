"""What `--github` does: annotations on stdout, and the Markdown summary appended to the step's."""

import os
from pathlib import Path

import click

from duress.reports.annotations import annotations
from duress.reports.gate import Gate
from duress.reports.markdown import SUMMARY_LIMIT, markdown
from duress.reports.summary import summarise
from duress.scenarios.result import Campaign

VARIABLE = "GITHUB_STEP_SUMMARY"


def tell_github(campaign: Campaign, gate: Gate | None = None) -> None:
    """Print the annotations; append to the summary as long as GitHub would still show it."""
    summary = summarise(campaign)
    for line in annotations(summary, gate):
        click.echo(line)
    if not (name := os.environ.get(VARIABLE)):
        return
    file, text = Path(name), markdown(summary, gate).encode()
    there = file.stat().st_size if file.exists() else 0
    if there + len(text) > SUMMARY_LIMIT:
        click.echo(f"the step's summary is full: {there} bytes; look at the report", err=True)
        return
    with file.open("ab") as summary_file:
        summary_file.write(text + b"\n")
