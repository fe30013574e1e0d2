"""The final state of one run: the engine's tables and the scenario's own, in one snapshot."""

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from duress.scenarios.history import CheckpointRow, FinalState, WorkerRow, WorkflowRow

Connection = AsyncConnection[Any]

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


async def read_final_state(connection: Connection, schema: str, tables: Mapping[str, str]) -> FinalState:
    """Read everything that the checkers look at. `tables` are the scenario's queries, by name."""
    async with connection.transaction():
        await connection.execute("set transaction isolation level repeatable read read only")
        return FinalState(
            workflows=tuple(WorkflowRow(**row) for row in await _rows(connection, schema, WORKFLOWS)),
            checkpoints=tuple(CheckpointRow(**row) for row in await _rows(connection, schema, CHECKPOINTS)),
            workers=tuple(WorkerRow(**row) for row in await _rows(connection, schema, WORKERS)),
            tables={name: tuple(await _rows(connection, schema, query)) for name, query in tables.items()},
        )


async def finished(connection: Connection, schema: str) -> set[str]:
    """The ids of the workflows that have an outcome."""
    return {str(row["id"]) for row in await _rows(connection, schema, FINISHED)}


async def _rows(connection: Connection, schema: str, query: str) -> list[dict[str, Any]]:
    statement = query.replace("{schema}", sql.Identifier(schema).as_string())
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement.encode())
        return await cursor.fetchall()
