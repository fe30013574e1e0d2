"""`duress report`: a campaign again, or the shards of one put together."""

import shutil
import sys
from pathlib import Path

import click

from duress import reports
from duress.cli import codes, terminal
from duress.cli.folders import new_folder
from duress.cli.github import tell_github
from duress.reports.terminal import show
from duress.scenarios.result import Campaign
from duress.scenarios.shards import NotOneCampaign, merge


@click.command("report")
@click.argument("directories", nargs=-1, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report.  [default: DIR; of several: .duress/TIME-SCENARIO-merged]",
)
@click.option("--baseline", type=click.Path(path_type=Path), help="Draw an earlier campaign beside it.")
@click.option("--github", is_flag=True, help="Annotate the step of GitHub Actions, and write its summary.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of result.json, and nothing else.")
def command(directories: tuple[Path, ...], out: Path | None, baseline: Path | None, github: bool, schema: bool) -> int:
    """Write the report of the campaign in DIR again, and show its verdict. Exits as the campaign did.

    One that still runs, or was killed, is shown as far as it went. Several are put together if they are parts of one
    campaign: one build, the same options, no seed twice.
    """
    if schema:
        sys.stdout.buffer.write(reports.schema())
        return codes.PASS
    if not directories:
        raise click.UsageError("give the folder of a campaign, such as .duress/20261124-101500-payments")
    try:
        parts = [(path if path.is_dir() else path.parent, reports.load(path)) for path in directories]
        if len(parts) == 1 and out is None:
            [(folder, campaign)] = parts
        else:
            folder = new_folder(out, parts[0][1].scenario, "-merged")
            campaign = merge(parts, folder)
        then = None if baseline is None else reports.load(baseline)
    except (reports.UnreadableResult, NotOneCampaign) as error:
        raise click.UsageError(str(error)) from error
    for source, part in parts:
        _bring_along(source, folder, part)
    reports.write(campaign, folder, baseline=then)
    show(campaign, terminal.results(), report=folder / reports.HTML_FILE)
    if github:
        tell_github(campaign)
    return codes.of_campaign(campaign)


def _bring_along(source: Path, folder: Path, campaign: Campaign) -> None:
    """Copy what belongs to the runs (plans, histories) beside the report."""
    if source.resolve() == folder.resolve():
        return
    for run in campaign.runs:
        for file in source.glob(f"seed-{run.seed}.*"):
            shutil.copy2(file, folder / file.name)
