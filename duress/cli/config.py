"""Configuration from [tool.duress] in pyproject.toml and from DURESS_… in the environment; unknown keys are errors.

click then decides: flag over environment over file over default.
"""

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any, Final

import click

# Option of the command line → the commands that have it. The file has them as written here, the environment as in
# DURESS_MAX_TIME.
KEYS: Final = {
    "world": ("run",),
    "seeds": ("run",),
    "faults": ("run",),
    "workers": ("run",),
    "jobs": ("run",),
    "network": ("run",),
    "max-time": ("run",),
    "out": ("run",),
    "shrink": ("run",),
    "corpus": ("run",),
    "dsn": ("run", "engine"),
    "schema": ("engine",),
}
# Read elsewhere: where PostgreSQL's programs and files are, and who it runs as; the Toxiproxy server; what our own tests
# may not go without.
FOREIGN: Final = (
    "DURESS_POSTGRES",
    "DURESS_POSTGRES_DIRECTORY",
    "DURESS_POSTGRES_USER",
    "DURESS_REQUIRE",
    "DURESS_IMAGE",
    "DURESS_TOXIPROXY",
)


def variable(key: str) -> str:
    """The environment variable of a key."""
    return "DURESS_" + key.upper().replace("-", "_")


def for_commands() -> dict[str, Any]:
    """click's `default_map`, from the nearest pyproject.toml. Raises UsageError for keys that are not known."""
    _check_environment()
    path = _nearest(Path.cwd())
    table = _table(path) if path is not None else {}
    for key in table:
        if key not in KEYS:
            raise click.UsageError(
                f"{path}: [tool.duress] has no key {key!r}{_hint(key, KEYS)}. It knows {', '.join(KEYS)}."
            )
    commands: dict[str, Any] = {"run": {}, "engine": {}}
    for key, value in table.items():
        for command in KEYS[key]:
            commands[command][key.replace("-", "_")] = value
    commands["engine"] = dict.fromkeys(("migrate", "ls", "show", "cancel"), commands["engine"])
    return commands


def _check_environment() -> None:
    known = [*map(variable, KEYS), *FOREIGN]
    for name in os.environ:
        if name.startswith("DURESS_") and name not in known:
            raise click.UsageError(
                f"environment: {name} is not known{_hint(name, known)}. Known are {', '.join(known)}."
            )


def _nearest(folder: Path) -> Path | None:
    for candidate in (folder, *folder.parents):
        if (candidate / "pyproject.toml").is_file():
            return candidate / "pyproject.toml"
    return None


def _table(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("duress", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise click.UsageError(f"{path}: tool.duress must be a table, [tool.duress]")
    return table


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
