"""The database as the engine sees it: one method for each SQL function, one call = one round trip = one transaction."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .lanes import Kind, Lanes
from .link import Connector, Link, Row

StepKind = Literal["step", "transaction", "sleep", "race"]
PAGE_BYTES = 4_000_000
PATIENT = 4  # connections, opened when needed, on which messages wait for locks that others hold
_PATIENCE = 86_400.0


@dataclass(frozen=True, slots=True)
class Fence:
    """What a writer names: itself, its claim, and the last checkpoints that it knows to be durable."""

    owner: int
    number: int
    epoch: int
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a step's checkpoint says; `value` is JSON text."""

    step: str
    name: str
    kind: str
    failed: bool
    value: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A workflow that is now ours, with the checkpoints that came along."""

    number: int
    id: str
    name: str
    input: str
    epoch: int
    takeovers: int
    claimed_at: float
    checkpoints: list[Checkpoint]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a claim brought. `armed`: claim once more before waiting; `due_in`: seconds until the next work is ready."""

    member: bool
    armed: bool
    due_in: float | None
    workflows: list[Claimed]


@dataclass(frozen=True, slots=True)
class Start:
    id: str
    name: str
    queue: str
    input: str


@dataclass(frozen=True, slots=True)
class Started:
    """`stored_name` and `stored_input` are set only where they differ from what was asked."""

    number: int
    existed: bool
    stored_name: str | None
    stored_input: str | None


@dataclass(frozen=True, slots=True)
class Sleep:
    answer: str | None
    due_at: float
    now_at: float


@dataclass(frozen=True, slots=True)
class Renewed:
    """A heartbeat's answer; see renew_v1."""

    lease_until: float
    peer: int | None
    expired: tuple[int, ...]
    next_in: float | None


class Store:
    """Calls the functions of one schema. `writers` connections carry batches; two more serve claims and patient messages."""

    def __init__(
        self, connector: Connector, schema: str, entropy: random.Random, *, writers: int, deadline: Callable[[], float]
    ) -> None:
        self.connector = connector
        self.schema = schema
        self._calls = Link(connector, entropy, deadline)
        self.lanes = Lanes(
            [Link(connector, entropy, deadline) for _ in range(writers)],
            [Link(connector, entropy, lambda: _PATIENCE) for _ in range(PATIENT)],
        )
        sql = _Statements(schema)
        self._sql = sql
        self._starts: Kind[Start, Started] = Kind(self._start_one, self._start_many)
        self._checkpoints: Kind[tuple[Fence, Checkpoint], str] = Kind(self._checkpoint_one, self._checkpoint_many)
        self._finishes: Kind[tuple[Fence, str, str], str] = Kind(self._finish_one, self._finish_many)
        self._clock: Kind[None, float] = Kind(self._now_one, self._now_many)
        self._sleeps: Kind[tuple[Fence, str, str, float, bool], Sleep] = Kind(self._sleep_one, self._sleep_many)

    async def close(self) -> None:
        await self.lanes.close()
        await self._calls.close()

    # Batched writes

    async def start(self, start: Start) -> Started:
        return (await self.lanes.send(self._starts, start))[0]

    async def checkpoint(self, fence: Fence, checkpoint: Checkpoint) -> tuple[str, object]:
        """The answer of checkpoint_v1, and a token for all that committed together."""
        return await self.lanes.send(self._checkpoints, (fence, checkpoint))

    async def warm_up(self) -> None:
        """Be ready to write: the first checkpoint after a takeover should not wait for a new session."""
        nobody = Fence(0, 0, 0, ())
        await self.lanes.warm_up(self._checkpoints, (nobody, Checkpoint("0", "", "step", False, "0")))

    async def finish(self, fence: Fence, status: str, outcome: str) -> str:
        return (await self.lanes.send(self._finishes, (fence, status, outcome)))[0]

    async def leave(self, incarnation: int) -> None:
        await self._calls.call(self._sql.leave, [incarnation])

    async def sleep(self, fence: Fence, step: str, name: str, seconds: float, suspend: bool) -> tuple[Sleep, object]:
        return await self.lanes.send(self._sleeps, (fence, step, name, seconds, suspend))

    # Single calls

    async def claim(
        self,
        owner: int,
        queues: Sequence[str],
        names: Sequence[str],
        room: int,
        held: Sequence[int] | None,
        full: bool = False,
    ) -> Claims:
        """Claim up to `room` workflows. `held`: the numbers of those that run, now and then; see claim_v1."""
        arguments = [
            owner,
            list(queues),
            list(names),
            room,
            PAGE_BYTES,
            full,
            _numbers(held) if held is not None else None,
        ]
        rows = await self._calls.call(self._sql.claim, arguments)
        member, armed, due_in = rows[0][11:14]
        workflows: dict[int, Claimed] = {}
        announced: dict[int, int] = {}
        for number, id_, name, epoch, takeovers, claimed_at, count, step, kind, failed, value, *_ in rows[1:]:
            if step is None:
                workflows[number] = Claimed(number, id_, name, value, epoch, takeovers, claimed_at, [])
                announced[number] = count
            else:
                workflows[number].checkpoints.append(Checkpoint(step, name, kind, failed, value))
        for number, claimed in workflows.items():
            while len(claimed.checkpoints) < announced[number]:
                await self._page(claimed)
        return Claims(member, armed, due_in, list(workflows.values()))

    async def _page(self, claimed: Claimed) -> None:
        after = claimed.checkpoints[-1].step if claimed.checkpoints else ""
        rows = await self._calls.call(self._sql.page, [claimed.number, after, PAGE_BYTES])
        claimed.checkpoints.extend(Checkpoint(*row) for row in rows)

    async def release(self, owner: int, held: Sequence[tuple[int, int, float | None]]) -> None:
        """Hand back (number, epoch, ready_at or None for now)."""
        numbers, epochs, ready = zip(*held, strict=True)
        await self._calls.call(self._sql.release, [owner, list(numbers), list(epochs), list(ready)])

    async def recorded(self, number: int, step: str) -> tuple[bool, str, int, int] | None:
        """failed, value, owner and epoch of a step's checkpoint, if there is one."""
        rows = await self._calls.call(self._sql.recorded, [number, step])
        return (rows[0][0], rows[0][1], rows[0][2], rows[0][3]) if rows else None

    async def now(self) -> float:
        """The database's clock, seconds since 1970."""
        return (await self.lanes.send(self._clock, None))[0]

    async def outcomes(self, awaited: Sequence[tuple[int, str]]) -> list[tuple[int, str, str | None, str | None]]:
        """(number, id, status, outcome) of those that ended, the others' ends will be notified. No status: there is no such
        workflow under this number.
        """
        numbers, ids = zip(*awaited, strict=True)
        rows = await self._calls.call(self._sql.outcomes, [_numbers(numbers), _texts(ids)])
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    async def cancel(self, id_: str) -> tuple[int, str] | None:
        rows = await self._calls.call(self._sql.cancel, [id_])
        return (rows[0][0], rows[0][1]) if rows else None

    async def query(self, statement: bytes, arguments: Sequence[object] = ()) -> list[Row]:
        """A read of ours (listing, status); see inspection.py."""
        return await self._calls.call(statement, arguments)

    # How messages are sent

    async def _now_one(self, link: Link, _: None) -> float:
        at: float = (await link.call(self._sql.now))[0][0]
        return at

    async def _now_many(self, link: Link, asking: Sequence[None]) -> list[float]:
        return [await self._now_one(link, None)] * len(asking)

    async def _start_many(self, link: Link, starts: Sequence[Start]) -> list[Started]:
        columns = [_texts(getattr(start, name) for start in starts) for name in ("id", "name", "queue", "input")]
        return [Started(*row) for row in await link.call(self._sql.start, columns)]

    async def _start_one(self, link: Link, start: Start) -> Started:
        return (await self._start_many(link, [start]))[0]

    async def _checkpoint_many(self, link: Link, writes: Sequence[tuple[Fence, Checkpoint]]) -> list[str | None]:
        if len(writes) == 1:
            rows = await link.call(self._sql.checkpoint, [*checkpoint_arguments(*writes[0]), False])
            return [rows[0][0]]
        fences, checkpoints = zip(*writes, strict=True)
        arguments = [
            fences[0].owner,
            _numbers(fence.number for fence in fences),
            _numbers(fence.epoch for fence in fences),
            _texts(_known(fence) for fence in fences),
            _texts(checkpoint.step for checkpoint in checkpoints),
            _texts(checkpoint.name for checkpoint in checkpoints),
            _texts(checkpoint.kind for checkpoint in checkpoints),
            _numbers(checkpoint.failed for checkpoint in checkpoints),
            _texts(checkpoint.value for checkpoint in checkpoints),
        ]
        rows = await link.call(self._sql.checkpoints, arguments)
        return ["written" if written else None for written in rows[0][0]]

    async def _checkpoint_one(self, link: Link, write: tuple[Fence, Checkpoint]) -> str:
        rows = await link.call(self._sql.checkpoint, [*checkpoint_arguments(*write), True])
        return str(rows[0][0])

    async def _finish_many(self, link: Link, ends: Sequence[tuple[Fence, str, str]]) -> list[str | None]:
        fences, statuses, outcomes = zip(*ends, strict=True)
        arguments = [
            fences[0].owner,
            _numbers(fence.number for fence in fences),
            _numbers(fence.epoch for fence in fences),
            _texts(_known(fence) for fence in fences),
            _texts(statuses),
            _texts(outcomes),
        ]
        rows = await link.call(self._sql.finishes, arguments)
        return ["finished" if finished else None for finished in rows[0][0]]

    async def _finish_one(self, link: Link, end: tuple[Fence, str, str]) -> str:
        fence, status, outcome = end
        arguments = [fence.owner, fence.number, fence.epoch, _texts(fence.known), status, outcome]
        return str((await link.call(self._sql.finish, arguments))[0][0])

    async def _sleep_one(self, link: Link, message: tuple[Fence, str, str, float, bool], wait: bool = True) -> Sleep:
        fence, step, name, seconds, suspend = message
        arguments = [fence.owner, fence.number, fence.epoch, _texts(fence.known), step, name, seconds, suspend, wait]
        return Sleep(*(await link.call(self._sql.sleep, arguments))[0])

    async def _sleep_many(
        self, link: Link, messages: Sequence[tuple[Fence, str, str, float, bool]]
    ) -> list[Sleep | None]:
        answers = [await self._sleep_one(link, message, wait=False) for message in messages]
        return [answer if answer.answer is not None else None for answer in answers]


def checkpoint_arguments(fence: Fence, checkpoint: Checkpoint) -> list[object]:
    """The arguments of checkpoint_v1, but for whether to wait for locks."""
    return [
        fence.owner,
        fence.number,
        fence.epoch,
        _texts(fence.known),
        checkpoint.step,
        checkpoint.name,
        checkpoint.kind,
        checkpoint.failed,
        checkpoint.value,
    ]


def checkpoint_statement(schema: str) -> bytes:
    """The call of checkpoint_v1, also made inside the transaction of a transaction step."""
    return (
        f"select {schema}.checkpoint_v1(%s::bigint, %s::bigint, %s::integer, %s::text[], %s, %s, %s, %s::boolean, %s,"
        " %s::boolean)"
    ).encode()


# Array literals, made here: psycopg's dumper looks at each element several times, which was a quarter of a step's cost.


def _numbers(values: Iterable[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def _texts(values: Iterable[str | None]) -> str:
    return "{" + ",".join(map(_quoted, values)) + "}"


def _quoted(value: str | None) -> str:
    """An element, by the rules of https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO"""
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _known(fence: Fence) -> str | None:
    """The known checkpoint of a row in a batch. Of several none is named right there, so that the row is sent alone."""
    return None if not fence.known else fence.known[0] if len(fence.known) == 1 else ""


class _Statements:
    def __init__(self, schema: str) -> None:
        def call(text: str) -> bytes:
            return text.replace("$", schema).encode()

        self.start = call("select * from $.start_v1(%s::text[], %s::text[], %s::text[], %s::text[])")
        self.claim = call(
            "select * from $.claim_v1(%s::bigint, %s::text[], %s::text[], %s, %s, %s::boolean, %s::bigint[])"
        )
        self.page = call("select * from $.page_v1(%s::bigint, %s::text, %s::integer)")
        self.release = call("select $.release_v1(%s::bigint, %s::bigint[], %s::integer[], %s::double precision[])")
        self.checkpoint = checkpoint_statement(schema)
        self.checkpoints = call(
            "select $.checkpoints_v1(%s::bigint, %s::bigint[], %s::integer[], %s::text[], %s::text[], %s::text[],"
            " %s::text[], %s::boolean[], %s::text[])"
        )
        self.sleep = call(
            "select * from $.sleep_v1(%s::bigint, %s::bigint, %s::integer, %s::text[], %s, %s, %s::double precision,"
            " %s::boolean, %s::boolean)"
        )
        self.recorded = call("select * from $.recorded_v1(%s::bigint, %s::text)")
        self.finish = call("select $.finish_v1(%s::bigint, %s::bigint, %s::integer, %s::text[], %s, %s)")
        self.finishes = call(
            "select $.finishes_v1(%s::bigint, %s::bigint[], %s::integer[], %s::text[], %s::text[], %s::text[])"
        )
        self.outcomes = call("select * from $.await_v1(%s::bigint[], %s::text[])")
        self.cancel = call("select * from $.cancel_v1(%s::text)")
        self.leave = call("select $.leave_v1(%s::bigint)")
        self.now = b"select extract(epoch from clock_timestamp())::double precision"
