"""`duress report`: a finished campaign again."""

from pathlib import Path

import click

from duress import reports
from duress.cli import codes, terminal
from duress.reports.terminal import show


@click.command("report")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(directory: Path) -> int:
    """Write the report of the campaign in DIR again, and show its verdict. Exits as the campaign did."""
    try:
        campaign = reports.load(directory)
    except reports.UnreadableResult as error:
        raise click.UsageError(str(error)) from error
    folder = directory if directory.is_dir() else directory.parent
    reports.write(campaign, folder)
    show(campaign, terminal.results(), report=folder / reports.HTML_FILE)
    return codes.OF_VERDICT[campaign.verdict]
