"""`duress engine`: the schema and the workflows of an application, from a terminal."""

import asyncio
from pathlib import Path

import psycopg
from command_line import duress

from duress.engine import Engine, workflow


@workflow
async def cli_never_run(count: int) -> int:
    return count


def start(dsn: str, *ids: str) -> None:
    async def go() -> None:
        async with Engine(dsn) as engine:
            for id_ in ids:
                await engine.start(id_, cli_never_run, 1)

    asyncio.run(go())


def test_a_schema_is_installed_once_and_then_up_to_date(tmp_path: Path, database: str) -> None:
    before = duress(tmp_path, "engine", "ls", "--dsn", database)
    assert before.code == 2 and "duress engine migrate" in before.err
    said = duress(tmp_path, "engine", "migrate", "--dsn", database)
    assert said.code == 0 and "applied 0001 tables" in said.out, said.err
    again = duress(tmp_path, "engine", "migrate", DURESS_DSN=database)
    assert again.code == 0 and again.out == "schema duress is up to date\n"


def test_workflows_are_listed_shown_and_cancelled(tmp_path: Path, database: str) -> None:
    assert duress(tmp_path, "engine", "migrate", "--dsn", database).code == 0
    start(database, "first", "zweiter ü")
    said = duress(tmp_path, "engine", "ls", "--dsn", database)
    head, newest, oldest = said.out.splitlines()
    assert head.split()[:3] == ["id", "name", "queue"]
    assert newest.startswith("zweiter ü") and oldest.startswith("first") and "pending" in oldest
    assert [row["id"] for row in duress(tmp_path, "engine", "ls", "--dsn", database, "--json").document] == [
        "zweiter ü",
        "first",
    ]
    cancelled = duress(tmp_path, "engine", "cancel", "--dsn", database, "first")
    assert cancelled.code == 0 and cancelled.out == "first is cancelled\n"
    shown = duress(tmp_path, "engine", "show", "--dsn", database, "first")
    assert shown.code == 0 and "cancelled" in shown.out and "cli_never_run" in shown.out
    assert duress(tmp_path, "engine", "show", "--dsn", database, "first", "--json").document["summary"]["id"] == "first"
    only = duress(tmp_path, "engine", "ls", "--dsn", database, "--status", "pending")
    assert "zweiter" in only.out and "first" not in only.out


def test_what_is_not_there_is_named(tmp_path: Path, database: str) -> None:
    assert duress(tmp_path, "engine", "migrate", "--dsn", database, "--schema", "other").code == 0
    for command in ("show", "cancel"):
        said = duress(tmp_path, "engine", command, "--dsn", database, "--schema", "other", "nobody")
        assert said.code == 2 and "'nobody'" in said.err and "'other'" in said.err
        assert "Traceback" not in said.err


def test_a_schema_newer_than_the_code_says_what_to_do(tmp_path: Path, database: str) -> None:
    assert duress(tmp_path, "engine", "migrate", "--dsn", database).code == 0
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("insert into duress.migration (version, name, oldest_code) values (999, 'later', 999)")
    for command in (("ls",), ("migrate",)):
        said = duress(tmp_path, "engine", *command, "--dsn", database)
        assert said.code == 2 and "999" in said.err and "Traceback" not in said.err


def test_a_role_without_rights_is_told_so(tmp_path: Path, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create role cli_guest login")
    try:
        said = duress(tmp_path, "engine", "migrate", "--dsn", database.replace("duress@", "cli_guest@"))
        assert said.code == 2 and "Traceback" not in said.err and "permission denied" in said.err
        said = duress(tmp_path, "engine", "migrate", "--dsn", database, "--role", "cli_nobody")
        assert said.code == 2 and "cli_nobody" in said.err and "Traceback" not in said.err
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("drop role cli_guest")
