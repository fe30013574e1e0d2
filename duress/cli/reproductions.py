"""What `duress replay` and `duress diff` are given: a token, or a file that leads to one. All raise click.UsageError."""

import re
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from duress import reports
from duress.faults import planfile
from duress.faults.plan import Plan, PlanError
from duress.reports import RESULT_FILE, trace
from duress.scenarios.result import Campaign, Run
from duress.scenarios.sim import token
from duress.scenarios.sim.token import Reproduction
from duress.simulator import TokenError

_TOKEN: Final = re.compile(r"(?<!\S)s[0-9]+\.[0-9]+\.\S+")
_PLAN: Final = re.compile(r"seed-([0-9]+)\.plan\.json")

_LONGEST_NAME: Final = 255  # bytes, of a file; the token of a run with a plan of its own is longer


class Planned(msgspec.Struct, frozen=True):
    """A run to repeat, and the plan file that takes the place of its plan, if there is one."""

    run: Reproduction
    plan: Plan | None = None


def planned(target: str) -> list[Planned]:
    """The runs that a token stands for (one), or a file or folder (perhaps several)."""
    path = Path(target)
    if len(path.name.encode()) > _LONGEST_NAME:
        return [Planned(_decoded(target))]
    if path.is_dir() or path.name == RESULT_FILE:
        return [Planned(_of_run(run, path)) for run in _worth_it(_campaign(path), path)]
    if not path.exists():
        if "/" in target or path.suffix in {".json", ".txt"}:
            raise click.UsageError(f"{target}: there is no such file; give a token, or a file or folder that has one")
        return [Planned(_decoded(target))]
    if (plan := _PLAN.fullmatch(path.name)) is not None:
        return [_of_plan(path, int(plan[1]))]
    return [Planned(_decoded(word)) for word in _words(path)]


def _decoded(word: str) -> Reproduction:
    try:
        return token.decode(word)
    except TokenError as error:
        raise click.UsageError(str(error)) from error


def _campaign(path: Path) -> Campaign:
    try:
        campaign = reports.load(path)
    except reports.UnreadableResult as error:
        raise click.UsageError(str(error)) from error
    if campaign.world != "sim":
        raise click.UsageError(
            f"{path}: these runs were made in the world {campaign.world}, where nobody decides who goes first; only "
            "simulated runs can be replayed. Each has a line that runs its seed and plan again, in the report."
        )
    return campaign


def _worth_it(campaign: Campaign, path: Path) -> list[Run]:
    """Those that did not pass; the only one there is, though it did."""
    runs = [run for run in campaign.runs if run.verdict != "pass"] or list(campaign.runs)
    if len(runs) == len(campaign.runs) > 1 and campaign.verdict == "pass":
        raise click.UsageError(
            f"{path}: all {len(runs)} runs passed; say which one is meant, by its plan ({runs[0].plan}) or by its token"
        )
    if not runs:
        raise click.UsageError(f"{path}: there is no run in it")
    return runs


def _of_run(run: Run, path: Path) -> Reproduction:
    if run.token is None:
        raise click.UsageError(f"{path}: seed {run.seed} has no token; it was made by an older duress: run it again")
    return _decoded(run.token)


def _of_plan(path: Path, seed: int) -> Planned:
    """The run beside whose result a plan lies, with the plan as it now is."""
    if not (path.parent / RESULT_FILE).is_file():
        raise click.UsageError(
            f"{path}: a plan does not say of which scenario it is, and there is no {RESULT_FILE} beside it. Run it: "
            f"duress run SCENARIO --world sim --seed {seed} --plan {path}"
        )
    found = [run for run in _campaign(path.parent).runs if run.seed == seed]
    if not found:
        raise click.UsageError(f"{path}: the {RESULT_FILE} beside it has no run of seed {seed}")
    try:
        return Planned(_of_run(found[0], path), planfile.load(path))
    except PlanError as error:
        raise click.UsageError(str(error)) from error


def _words(path: Path) -> list[str]:
    """The token of a trace, or those in a text, in their order and each once."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from error
    ours = _ours(text)
    words = [ours] if ours is not None else list(dict.fromkeys(_TOKEN.findall(text)))
    if not words:
        raise click.UsageError(
            f"{path}: there is no reproduction token in it. Give a token, a file with tokens, a trace, a plan "
            f"(seed-N.plan.json beside its {RESULT_FILE}), or the folder of a result."
        )
    return words


def _ours(text: str) -> str | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        document: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    ours = document.get(trace.KEY) if isinstance(document, dict) else None
    word = ours.get("token") if isinstance(ours, dict) else None
    return word if isinstance(word, str) else None
