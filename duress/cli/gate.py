"""`duress gate`: a finished campaign against limits, and against an earlier one."""

import subprocess
import sys
from pathlib import Path

import click
import msgspec

from duress import reports
from duress.cli import codes, terminal
from duress.cli.github import tell_github
from duress.reports.gate import Gate, Limits, LimitsError, NotComparable, judge, read_limits
from duress.reports.gate.terminal import show_gate
from duress.scenarios.result import Campaign

AGAIN = "again"  # the folder of a second attempt, in that of the first


@click.command("gate")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--limits", "limits_file", required=True, type=click.Path(path_type=Path), help="TOML file of limits.")
@click.option("--baseline", type=click.Path(path_type=Path), help="Folder or result.json of an earlier campaign.")
@click.option("--again", type=click.Path(path_type=Path), help="A second attempt: missed timing limits may use it.")
@click.option(
    "--retry-timing", is_flag=True, help="Where only timing limits are missed, make that second attempt, once."
)
@click.option("--github", is_flag=True, help="Annotate the step of GitHub Actions, and write its summary.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(
    directory: Path,
    limits_file: Path,
    baseline: Path | None,
    again: Path | None,
    retry_timing: bool,
    github: bool,
    as_json: bool,
) -> int:
    """Judge the campaign in DIR by the limits in a file, and by the campaign in --baseline.

    Writes gate.json, and the report with the outcome in it. Exit code: 0 all limits are kept, 1 an invariant was violated,
    2 usage, 3 the harness failed, 4 undecided (too little was run), 6 a limit was missed or it is slower than the baseline.
    A violated invariant stays violated, however often it is tried again.
    """
    if retry_timing and again is not None:
        raise click.UsageError(
            "--again gives the second attempt, so there is nothing to retry; leave out --retry-timing"
        )
    if github and as_json:
        raise click.UsageError("--github prints annotations, and --json nothing but a document; use one of them")
    try:
        limits = read_limits(limits_file)
        campaign = reports.load(directory)
        then = None if baseline is None else reports.load(baseline)
        second = None if again is None else reports.load(again)
        gate = _judge(campaign, limits, limits_file, then, baseline, second)
        if retry_timing and gate.state == "missed":
            second = _try_again(campaign, directory)
            gate = _judge(campaign, limits, limits_file, then, baseline, second)
    except (LimitsError, reports.UnreadableResult, NotComparable) as error:
        raise click.UsageError(str(error)) from error
    folder = directory if directory.is_dir() else directory.parent
    reports.save_gate(gate, folder)
    reports.write(campaign, folder, baseline=then)
    code = codes.OF_STATE[gate.state]
    if as_json:
        document = {"code": code, **msgspec.to_builtins(gate), "report": str(folder / reports.HTML_FILE)}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    else:
        show_gate(gate, campaign, terminal.results(), report=folder / reports.HTML_FILE)
    if github:
        tell_github(campaign, gate)
    return code


def _judge(
    campaign: Campaign,
    limits: Limits,
    limits_file: Path,
    then: Campaign | None,
    baseline: Path | None,
    second: Campaign | None,
) -> Gate:
    return judge(
        campaign,
        limits,
        limits_name=str(limits_file),
        baseline=then,
        baseline_name=None if baseline is None else str(baseline),
        again=second,
    )


def _try_again(campaign: Campaign, directory: Path) -> Campaign:
    """Run the campaign again as it was run, into a folder of its own. Raises UsageError, UnreadableResult."""
    if not campaign.command or len(campaign.shards) > 1:
        raise click.UsageError(
            "--retry-timing: one `duress run` cannot repeat this campaign; run it again by hand and give it by --again"
        )
    folder = (directory if directory.is_dir() else directory.parent) / AGAIN
    words = [*campaign.command, *(word for shard in campaign.shards for word in ("--shard", shard))]
    click.echo("only timing limits were missed; trying once more", err=True)
    done = subprocess.run(
        [sys.executable, "-m", "duress", *words, "--out", str(folder)], stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode in (codes.USAGE, codes.INTERRUPTED):
        raise click.UsageError(
            f"the second attempt could not be made: duress {' '.join(words)} exited {done.returncode}"
        )
    return reports.load(folder)
