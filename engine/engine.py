"""The front door: start workflows, wait for them, work."""

import asyncio
import hashlib
import random
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

import psycopg

from . import failures, inspection, observer
from .assertions import sometimes
from .codec import Codec, Values, is_storable, same_value
from .definitions import Registry, WorkflowDefinition, registry
from .errors import (
    ConfigurationError,
    DatabaseUnavailable,
    ValueNotSerializable,
    WorkflowCancelled,
    WorkflowConflict,
    WorkflowDead,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowUnfinished,
)
from .link import Connector, backoff, close
from .migrations import Migration, check, check_schema_name, migrate
from .observer import Observer
from .outcomes import Outcomes, Vanished
from .runtime import WorkerOptions, log
from .store import Start, Store
from .worker import Worker

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST_ID = 512


class Handle(Generic[R]):
    """A workflow that was accepted, or is looked for, by its id."""

    def __init__(
        self, engine: "Engine", id_: str, number: int | None, definition: WorkflowDefinition[..., Any] | None
    ) -> None:
        self.id = id_
        self._engine = engine
        self._number = number
        self._definition = definition

    async def result(self, *, timeout: float | None = None) -> R:
        """What the workflow returned, once that is durable.

        Raises WorkflowFailed, WorkflowCancelled or WorkflowDead as it ended, WorkflowUnfinished after `timeout` seconds,
        WorkflowNotFound if no workflow has this id, or none any more: an asynchronous standby may lack an accepted one.
        """
        try:
            async with asyncio.timeout(timeout):
                status, outcome = await self._engine._outcome(await self.number(), self.id)
        except TimeoutError:
            raise WorkflowUnfinished(f"workflow {self.id!r} did not end within {timeout} s; it goes on") from None
        digest = hashlib.sha256((outcome or "").encode()).hexdigest()[:16]
        await self._engine._observe(observer.READ, workflow=self.id, status=status, digest=digest)
        values = self._engine._values
        if status == "cancelled":
            raise WorkflowCancelled(f"workflow {self.id!r} was cancelled")
        if status == "dead":
            raise WorkflowDead(f"workflow {self.id!r} was given up: its claims kept ending in dead workers")
        if outcome is None or status == "failed":
            failure = failures.read(outcome or "", values)
            raise WorkflowFailed(self.id, failure.type, failure.message)
        type_ = self._definition.signature.returns if self._definition is not None else Any
        result: R = values.decode(outcome, type_, f"result of workflow {self.id!r}")
        return result

    async def status(self) -> str:
        """pending, running, sleeping, succeeded, failed, cancelled or dead; WorkflowNotFound if there is none."""
        return (await self._engine.show(self.id)).status

    async def number(self) -> int:
        """The workflow's number in the database."""
        if self._number is None:
            self._number, name = await self._engine._find(self.id)
            self._definition = self._definition or self._engine._registry.get(name)
        return self._number


class Engine:
    """Durable execution on one PostgreSQL schema.

    `async with Engine(dsn) as engine:` checks that the database answers and its schema fits. `codec` transforms all stored
    values; `observer` is told of engine points; `entropy` gives ids and jitter.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "duress",
        observer: Observer | None = None,
        entropy: random.Random | None = None,
        codec: Codec | None = None,
        registry: Registry = registry,
    ) -> None:
        self.dsn = dsn
        self.schema = check_schema_name(schema)
        self._observer = observer
        self._entropy = entropy or random.Random()
        self._values = Values(codec)
        self._registry = registry
        self._workers: list[Worker] = []
        connector = Connector(dsn, "duress:client")
        self._connector = connector
        self._store = Store(connector, schema, self._entropy, writers=1, deadline=lambda: 15.0)
        self._outcomes = Outcomes(self._store, connector, schema, self._entropy, lambda: bool(self._workers))
        self._checking = asyncio.Lock()
        self._checked = False

    async def __aenter__(self) -> Self:
        self._connector.spare = await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        await self._outcomes.close()
        await self._store.close()
        await self._connector.close()

    async def migrate(self, *, running_role: str | None = None) -> list[Migration]:
        """Install or upgrade the schema; returns the migrations applied now. See `duress engine migrate`."""
        conn = await self._connect()
        try:
            applied = await migrate(conn, self.schema, running_role=running_role)
        except BaseException:
            await close(conn)
            raise
        self._connector.spare = conn
        return applied

    # Clients

    async def start(
        self, id: str, workflow: WorkflowDefinition[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]:
        """Accept a workflow, once: starting the same id again gives the same workflow. Durable when this returns.

        Raises WorkflowConflict if the id belongs to another workflow or input, ValueNotSerializable for arguments that
        cannot be stored, TypeError for arguments that do not fit the signature. For another queue see `on()`.
        """
        return await self._start(id, workflow, "default", args, kwargs)

    def on(self, queue: str) -> "Queue":
        """The same engine, starting on another queue: `await engine.on("slow").start(…)`."""
        if not queue or not is_storable(queue):
            raise ConfigurationError(f"queue name {queue!r} will not do: not empty, no NUL, no lone surrogates")
        return Queue(self, queue)

    async def _start(
        self, id_: str, workflow: WorkflowDefinition[Any, R], queue: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Handle[R]:
        if not isinstance(workflow, WorkflowDefinition):
            raise TypeError(f"start() takes a function decorated with @workflow, not {workflow!r}")
        if not id_ or len(id_) > _LONGEST_ID or not is_storable(id_):
            raise ConfigurationError(
                f"workflow id {id_[:40]!r} will not do: 1 to {_LONGEST_ID} characters, no NUL, no lone surrogates"
            )
        await self._check_patiently()
        text = workflow.signature.encode(self._values, f"workflow {workflow.name!r}", args, kwargs)
        await self._observe(observer.STARTING, workflow=id_, name=workflow.name)
        started = await self._store.start(Start(id_, workflow.name, queue, text))
        sometimes(started.existed, "a start found its workflow there already")
        if started.stored_name is not None:
            raise WorkflowConflict(
                f"workflow id {id_!r} belongs to a {started.stored_name!r}, not to a {workflow.name!r}"
            )
        if started.stored_input is not None and not self._same_input(workflow, text, started.stored_input):
            raise WorkflowConflict(f"workflow {id_!r} was started with another input")
        await self._observe(
            observer.ACCEPTED, workflow=id_, name=workflow.name, number=started.number, existed=started.existed
        )
        for worker in self._workers:
            worker.wake()
        return Handle(self, id_, started.number, workflow)

    def handle(self, id: str) -> Handle[Any]:
        """A handle on a workflow that was started before, perhaps by somebody else."""
        return Handle(self, id, None, None)

    async def cancel(self, id: str) -> str:
        """Cancel a workflow; returns its final status, which is another one if it had ended before.

        A step that runs now may still end its body; no further step starts. Raises WorkflowNotFound.
        """
        await self._check_patiently()
        answer = await self._store.cancel(id) if is_storable(id) else None
        if answer is None:
            raise WorkflowNotFound(f"no workflow has the id {id!r} in schema {self.schema!r}")
        return answer[1]

    async def list(self, *, status: str | None = None, limit: int = 100) -> list[inspection.Summary]:
        """Workflows, newest first; `status` as in `Handle.status`."""
        await self._check()
        return await inspection.summaries(self._store, status, limit)

    async def show(self, id: str) -> inspection.Details:
        """One workflow with its checkpoints (never their values). Raises WorkflowNotFound."""
        await self._check()
        return await inspection.details(self._store, id)

    # Workers

    async def work(
        self,
        queues: Iterable[str] = ("default",),
        *,
        concurrency: int = 100,
        name: str | None = None,
        lease: float = 5.0,
        heartbeat: float = 1.0,
        poll: float = 1.0,
        **more: Any,
    ) -> None:
        """Be a worker until `stop()` (graceful), or until cancelled (at once). Options: see WorkerOptions.

        Raises WorkerNameTaken if a living worker has this name, ConfigurationError for options that cannot work.
        """
        options = WorkerOptions(
            queues=tuple(queues),
            concurrency=concurrency,
            name=name,
            lease=lease,
            heartbeat=heartbeat,
            poll=poll,
            **more,
        )
        await self._check_patiently()
        # A server that was away may have lost the first packet, and TCP sends it again after 1, 3 and 7 s: a new try is sooner.
        joining = Connector(self.dsn, "duress:joining", min(Connector.CONNECT_TIMEOUT, max(1.0, lease)))
        joining.spare, self._connector.spare = self._connector.spare, None
        worker = Worker(
            joining,
            self.schema,
            self._registry,
            self._values,
            self._observer,
            self._entropy,
            options,
            self._outcomes.tell,
        )
        self._workers.append(worker)
        try:
            await worker.run()
        finally:
            self._workers.remove(worker)

    def stop(self) -> None:
        """Stop this engine's workers gracefully: `work()` returns when they have handed over what they held."""
        for worker in self._workers:
            worker.stop()

    # For handles

    async def _outcome(self, number: int, id_: str) -> tuple[str, str | None]:
        """The outcome of a workflow that had this number when it was accepted; it has another if it was accepted again, after
        a failover that lost it.
        """
        while True:
            try:
                return await self._outcomes.wait(number, id_)
            except Vanished:
                number, _ = await self._find(id_)

    async def _find(self, id_: str) -> tuple[int, str]:
        await self._check_patiently()
        return await inspection.find(self._store, id_)

    async def _observe(self, point: str, /, **facts: str | float | bool | None) -> None:
        if self._observer is not None and (wait := self._observer.point(point, facts)) is not None:
            await wait

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        try:
            return await self._connector.connect()
        except (psycopg.Error, TimeoutError, OSError) as error:
            reason = str(error).strip() or f"no answer within {self._connector.connect_timeout:.0f} s"
            raise DatabaseUnavailable(
                f"cannot connect to PostgreSQL: {reason}; check the DSN ({_without_password(self.dsn)}) and the server"
            ) from error

    async def _check(self) -> None:
        """Once, and for all who ask at the same time."""
        if self._checked:
            return
        async with self._checking:
            while not self._checked:
                earlier = self._connector.spare is not None
                conn = await self._connect()
                try:
                    await check(conn, self.schema)
                except BaseException as error:
                    await close(conn)
                    if isinstance(error, psycopg.errors.InsufficientPrivilege):
                        raise DatabaseUnavailable(
                            f"this role lacks rights on schema {self.schema!r}: {error.diag.message_primary}; run"
                            " `duress engine migrate --role ROLE`"
                        ) from error
                    if not (earlier and isinstance(error, psycopg.OperationalError)):
                        raise
                    continue  # the server has been away since that connection was made
                self._connector.spare = conn
                self._checked = True

    async def _check_patiently(self) -> None:
        """The check of whoever outlasts a server that goes away: it did answer when the engine was opened."""
        tries = 0
        while not self._checked:
            try:
                await self._check()
            except (DatabaseUnavailable, psycopg.OperationalError) as error:
                if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                    raise
                tries += 1
                log.warning("waiting for the database: %s", error)
                await asyncio.sleep(backoff(tries, self._entropy))

    def _same_input(self, workflow: WorkflowDefinition[Any, Any], one: str, other: str) -> bool:
        """Whether two inputs differ in nothing but the order of keys and sets, or the way to write a number of the type."""
        try:
            first, second = (workflow.signature.decode(self._values, workflow.name, text) for text in (one, other))
        except ValueNotSerializable:
            return False  # what was stored does not fit the code any more
        return same_value(first, second)


class Queue:
    """An engine bound to a queue; see `Engine.on`."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    async def start(
        self, id: str, workflow: WorkflowDefinition[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]:
        """As `Engine.start`, on this queue."""
        return await self._engine._start(id, workflow, self.name, args, kwargs)


def _without_password(dsn: str) -> str:
    try:
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        return "which cannot be parsed"
    parts.pop("password", None)
    return psycopg.conninfo.make_conninfo("", **parts)
