"""What is there: listing workflows and showing one. Never their values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .chronicle import Moment, chronicle
from .codec import is_storable
from .errors import ConfigurationError, WorkflowNotFound
from .store import Store

STATUSES = ("pending", "running", "sleeping", "succeeded", "failed", "cancelled", "dead")

_STATUS = """
    case when w.status <> 'open' then w.status
         when l.owner is not null then 'running'
         when l.ready_at > clock_timestamp() then 'sleeping'
         else 'pending' end"""

_SUMMARY = f"""
    select w.id, w.name, w.queue, {_STATUS} as status, greatest(w.epoch, l.epoch) as epoch, o.name as owner,
           coalesce(l.takeovers, 0), w.created_at, w.finished_at, case when l.owner is null then l.ready_at end,
           case when l.owner is not null then l.claimed_at end
    from $.workflow w
    left join $.live l on l.number = w.number
    left join $.worker o on o.incarnation = l.owner"""


@dataclass(frozen=True, slots=True)
class Summary:
    """A workflow in a list. `ready_at`: when a pending or sleeping one may be claimed; `owner`: the name of its worker, which
    claimed it at `claimed_at`."""

    id: str
    name: str
    queue: str
    status: str
    epoch: int
    owner: str | None
    takeovers: int
    created_at: datetime
    finished_at: datetime | None
    ready_at: datetime | None
    claimed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A checkpoint without its value; `size` in bytes as stored. `end_reason` says how its worker ended, if it has."""

    step: str
    name: str
    kind: str
    failed: bool
    epoch: int
    worker: str | None
    at: datetime
    size: int
    incarnation: int
    worker_ended_at: datetime | None
    end_reason: str | None


@dataclass(frozen=True, slots=True)
class Details:
    """A workflow with its checkpoints in the order in which they were written; `error` of a failed one."""

    summary: Summary
    checkpoints: tuple[Recorded, ...]

    @property
    def status(self) -> str:
        return self.summary.status

    @property
    def history(self) -> tuple[Moment, ...]:
        """What became of it, in the order of time."""
        return chronicle(self)


async def summaries(store: Store, status: str | None, limit: int) -> list[Summary]:
    """Newest first."""
    if status is not None and status not in STATUSES:
        raise ConfigurationError(f"there is no status {status!r}: choose one of {', '.join(STATUSES)}")
    statement = f"select * from ({_SUMMARY} order by w.number desc) s where %s::text is null or s.status = %s limit %s"
    rows = await store.query(statement.replace("$", store.schema).encode(), [status, status, limit])
    return [Summary(*row) for row in rows]


async def details(store: Store, id_: str) -> Details:
    """One workflow; WorkflowNotFound if there is none."""
    if not is_storable(id_):
        raise WorkflowNotFound(f"no workflow has the id {id_!r}, nor could it")
    rows = await store.query(f"{_SUMMARY} where w.id = %s".replace("$", store.schema).encode(), [id_])
    if not rows:
        raise WorkflowNotFound(f"no workflow has the id {id_!r} in schema {store.schema!r}")
    statement = """
        select c.step, c.name, c.kind, c.failed, c.epoch, o.name, c.at, pg_column_size(c.value),
               c.owner, o.ended_at, o.end_reason
        from $.checkpoint c
        join $.workflow w on w.number = c.number
        left join $.worker o on o.incarnation = c.owner
        where w.id = %s
        order by c.at, c.step"""
    checkpoints = await store.query(statement.replace("$", store.schema).encode(), [id_])
    return Details(Summary(*rows[0]), tuple(Recorded(*row) for row in checkpoints))


async def strangers(store: Store, queues: Sequence[str], names: Sequence[str]) -> list[tuple[str, str]]:
    """Names (with an id each) of ready workflows that none of `names` covers: nobody here has their code.

    Looks at the thousand that have waited longest; those that nobody claims gather there.
    """
    statement = f"""
        select s.name, min(w.id)
        from (
            select l.name, l.number from {store.schema}.live l
            where l.queue = any (%s::text[]) and l.owner is null and l.ready_at < clock_timestamp() - interval '1 s'
            order by l.ready_at, l.number limit 1000
        ) s
        join {store.schema}.workflow w on w.number = s.number
        where s.name <> all (%s::text[])
        group by s.name order by s.name"""
    return [(row[0], row[1]) for row in await store.query(statement.encode(), [list(queues), list(names)])]


async def find(store: Store, id_: str) -> tuple[int, str]:
    """Number and name; WorkflowNotFound if there is none."""
    if not is_storable(id_):
        raise WorkflowNotFound(f"no workflow has the id {id_!r}, nor could it")
    rows = await store.query(f"select number, name from {store.schema}.workflow where id = %s".encode(), [id_])
    if not rows:
        raise WorkflowNotFound(f"no workflow has the id {id_!r} in schema {store.schema!r}")
    return rows[0][0], rows[0][1]
