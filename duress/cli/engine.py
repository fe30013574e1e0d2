"""`duress engine`: the schema and the workflows of an application."""

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import msgspec
import psycopg

from duress.engine import Engine
from duress.engine.errors import DuressError
from duress.engine.inspection import STATUSES, Summary

T = TypeVar("T")
Function = Callable[..., Any]


def _shared(function: Function) -> Function:
    """The options that all of these commands have."""
    function = click.option(
        "--schema", default="duress", envvar="DURESS_SCHEMA", show_default=True, help="The engine's schema."
    )(function)
    return click.option("--dsn", required=True, envvar="DURESS_DSN", help="The database, as a URL or conninfo.")(
        function
    )


@click.group("engine")
def command() -> None:
    """Migrate the engine's schema; list, show and cancel workflows."""


@command.command("migrate")
@_shared
@click.option("--role", help="Also grant this role what workers and clients need.")
def migrate(dsn: str, schema: str, role: str | None) -> None:
    """Install or upgrade the schema. Old workers go on while new ones come."""

    async def ask(engine: Engine) -> list[str]:
        return [f"{one.version:04} {one.name}" for one in await engine.migrate(running_role=role)]

    applied = _with(dsn, schema, ask)
    click.echo("\n".join(f"applied {name}" for name in applied) or f"schema {schema} is up to date")


@command.command("ls")
@_shared
@click.option("--status", type=click.Choice(STATUSES), help="Only those.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def ls(dsn: str, schema: str, status: str | None, limit: int, as_json: bool) -> None:
    """List workflows, newest first."""

    async def ask(engine: Engine) -> list[Any]:
        return list(await engine.list(status=status, limit=limit))

    found = _with(dsn, schema, ask)
    if as_json:
        return _print(found)
    columns = ("id", "name", "queue", "status", "epoch", "owner", "created_at")
    return _table(columns, found)


@command.command("show")
@_shared
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(dsn: str, schema: str, id: str, as_json: bool) -> None:
    """Show what became of a workflow: owners, epochs and checkpoints in the order of time, never values."""
    details = _with(dsn, schema, lambda engine: engine.show(id))
    if as_json:
        _print({**dataclasses.asdict(details), "history": details.history})
        return
    summary = details.summary
    click.echo(f"{summary.id}: workflow {summary.name}, {summary.status}, epoch {summary.epoch}")
    click.echo(f"accepted {_cell(summary.created_at)}{_ended(summary)}")
    click.echo()
    click.echo("   seconds     after")
    for moment in details.history:
        indent = "    " if moment.event == "checkpoint" else "  "
        click.echo(f"{moment.seconds:>10.3f}{moment.after:>+10.3f}{indent}{moment.text}")


def _ended(summary: Summary) -> str:
    """How long it took or takes, and what has become of its owners."""
    if summary.finished_at is not None:
        return f", ended {(summary.finished_at - summary.created_at).total_seconds():.3f} s later"
    if summary.takeovers:
        return f"; its last {summary.takeovers} claims ended in dead workers"
    return ""


@command.command("cancel")
@_shared
@click.argument("id")
def cancel(dsn: str, schema: str, id: str) -> int:
    """Cancel a workflow. A step that runs now may still end its body; no further step starts."""
    status = _with(dsn, schema, lambda engine: engine.cancel(id))
    if status == "cancelled":
        click.echo(f"{id} is cancelled")
        return 0
    raise click.UsageError(f"{id} had ended before: {status}")


def _with(dsn: str, schema: str, ask: Callable[[Engine], Awaitable[T]]) -> T:
    """Ask an engine; what the user can correct becomes a usage error."""

    async def run() -> T:
        async with Engine(dsn, schema=schema) as engine:
            return await ask(engine)

    try:
        return asyncio.run(run())
    except DuressError as error:
        raise click.UsageError(str(error)) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise click.UsageError(f"the role of the DSN lacks rights for this: {error.diag.message_primary}") from error
    except psycopg.errors.UndefinedObject as error:  # --role
        raise click.UsageError(str(error.diag.message_primary)) from error


def _print(found: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


def _table(columns: tuple[str, ...], rows: Any) -> None:
    """Plain columns, as wide as what is in them, so that they can be cut and searched."""
    lines = [columns, *(tuple(_cell(getattr(row, column)) for column in columns) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return value.isoformat(sep=" ", timespec="milliseconds") if hasattr(value, "isoformat") else str(value)
