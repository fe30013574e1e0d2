"""The final state of one run: the engine's tables and the scenario's own, in one snapshot."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from duress.scenarios.history import CheckpointRow, FinalState, WorkerRow, WorkflowRow

Connection = AsyncConnection[Any]
Rows = Sequence[dict[str, Any]]

ENGINE = "engine."  # begins the names of what is not the scenario's own

WORKFLOWS = """
    select w.number, w.id, w.name, w.status, w.outcome::text as outcome, greatest(w.epoch, l.epoch) as epoch,
           w.owner, extract(epoch from w.finished_at)::double precision as finished_at
    from {schema}.workflow w left join {schema}.live l on l.number = w.number
    order by w.number, l.epoch
"""
CHECKPOINTS = """
    select c.number, w.id as workflow, c.step, c.name, c.kind, c.failed, c.value::text as value, c.owner, c.epoch,
           extract(epoch from c.at)::double precision as at
    from {schema}.checkpoint c join {schema}.workflow w on w.number = c.number
    order by c.number, c.at, c.step
"""
WORKERS = """
    select incarnation, name, extract(epoch from joined_at)::double precision as joined_at,
           extract(epoch from lease_until)::double precision as lease_until,
           extract(epoch from ended_at)::double precision as ended_at, end_reason
    from {schema}.worker order by incarnation
"""
FINISHED = "select id from {schema}.workflow where status <> 'open'"


def questions(schema: str, tables: Mapping[str, str]) -> dict[str, str]:
    """All that the checkers look at, as queries by name. `tables` are the scenario's own."""
    engine = {"workflow": WORKFLOWS, "checkpoint": CHECKPOINTS, "worker": WORKERS}
    return {
        **{f"{ENGINE}{name}": _of_schema(query, schema) for name, query in engine.items()},
        **{name: _of_schema(query, schema) for name, query in tables.items()},
    }


def state(answers: Mapping[str, Rows]) -> FinalState:
    """What the rows that answer the `questions` say."""
    return FinalState(
        workflows=tuple(WorkflowRow(**row) for row in answers[f"{ENGINE}workflow"]),
        checkpoints=tuple(CheckpointRow(**row) for row in answers[f"{ENGINE}checkpoint"]),
        workers=tuple(WorkerRow(**row) for row in answers[f"{ENGINE}worker"]),
        tables={name: tuple(rows) for name, rows in answers.items() if not name.startswith(ENGINE)},
    )


async def read_final_state(connection: Connection, schema: str, tables: Mapping[str, str]) -> FinalState:
    """Read everything that the checkers look at, in one snapshot."""
    async with connection.transaction():
        await connection.execute("set transaction isolation level repeatable read read only")
        return state({name: await _rows(connection, query) for name, query in questions(schema, tables).items()})


async def finished(connection: Connection, schema: str) -> set[str]:
    """The ids of the workflows that have an outcome."""
    return {str(row["id"]) for row in await _rows(connection, _of_schema(FINISHED, schema))}


async def _rows(connection: Connection, query: str) -> Rows:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode())
        return await cursor.fetchall()


def _of_schema(query: str, schema: str) -> str:
    return query.replace("{schema}", sql.Identifier(schema).as_string())
