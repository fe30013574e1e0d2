"""The commands. Each one's module is imported when it is called, so that `duress --help` is quick."""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

import click

from duress.cli import codes, config

COMMANDS: Final = {
    "run": ("duress.cli.running", "Run scenarios under faults, judge them, and write the report."),
    "replay": ("duress.cli.replaying", "Run a simulated run again, from its token."),
    "diff": ("duress.cli.differing", "Show the first difference of two simulated runs."),
    "shrink": ("duress.cli.shrinking", "Make a failing simulated run smaller, and tell what happens in it."),
    "sweep": ("duress.cli.sweeping", "Strike at every place of a simulated run, one after the other."),
    "list": ("duress.cli.listing", "List the scenarios, or the canaries of one."),
    "report": ("duress.cli.reporting", "Show a finished campaign, and write its report again."),
    "gate": ("duress.cli.gate", "Judge a finished campaign by limits and by an earlier one."),
    "doctor": ("duress.cli.doctor", "Say what works on this machine; --heal undoes what killed runs left behind."),
    "engine": ("duress.cli.engine", "Migrate the engine's schema; list, show and cancel workflows."),
}


class Lazy(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in COMMANDS.items()])


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib import metadata

        click.echo(f"duress {metadata.version('duress')}")
        context.exit()


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_context
def app(context: click.Context) -> None:
    """Run durable-execution scenarios while faults kill, pause and cut off what they run on, and say what held.

    Options can also be set in [tool.duress] of pyproject.toml (max-time = 30) and in the environment
    (DURESS_MAX_TIME=30). A flag counts before the environment, that before the file, that before the default.
    """
    context.default_map = config.for_commands()


def run(arguments: Sequence[str]) -> int:
    """Run a command; returns the exit code. What the user can correct is said in one paragraph on stderr."""
    try:
        result = app.main(list(arguments), prog_name="duress", standalone_mode=False)
    except click.Abort:
        return codes.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return codes.USAGE
    except click.ClickException as error:
        error.show(sys.stderr)
        return codes.USAGE
    return result if isinstance(result, int) else codes.PASS
