"""The ready CI files call `duress` with options that it has, and their limits are limits."""

import re
import shlex
from pathlib import Path

import click
import pytest

from duress.cli.app import app
from duress.reports.gate import read_limits

CI = Path(__file__).parents[2] / "docs" / "ci"


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_every_call_of_duress_parses(name: str) -> None:
    text = re.sub(r"\\?\n\s+(?=--)", " ", (CI / name).read_text())  # a command that goes on in the next line
    calls = re.findall(r"^\s*(?:- )?duress (.+?)(?: \|\| code=\$\?)?$", text, flags=re.MULTILINE)
    assert [call.split()[0] for call in calls] == ["run", "report", "gate"]
    for written in calls:
        call = re.sub(r'\$\{FRESH:\+(.+?)\}|"\$\{baseline\[@\]\}"', r"\1", written).replace("$SHARD/$SHARDS", "1/4")
        call = call.replace("$CI_NODE_INDEX/$CI_NODE_TOTAL", "1/4")
        command, *words = shlex.split(call.replace('"$SEEDS"', "5").replace('"$WORLD"', "sim"))
        found = app.get_command(click.Context(app), command)
        assert found is not None
        context = found.make_context(command, list(words))
        assert context.params["out" if command != "gate" else "limits_file"] is not None


def test_the_limits_can_be_read() -> None:
    limits = read_limits(CI / "limits.toml")
    assert limits.recovery["kill-worker"]["first"] == {"p50": 0.1}
    assert limits.minimum_runs == 190
