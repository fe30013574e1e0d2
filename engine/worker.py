"""A worker: claims ready workflows and runs them, for as long as it is a member; when it was declared dead while it lived, it
gives up all it held and comes back as a new incarnation.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg

from . import inspection, observer
from .assertions import always, reachable, sometimes
from .codec import Values
from .definitions import Registry
from .execution import LET_GO, Execution
from .link import Connector, backoff, lost
from .membership import Membership
from .migrations import lock_class
from .observer import Observer
from .runtime import Runtime, WorkerOptions, log
from .scope import numbered_tasks
from .sessions import Sessions
from .store import Claimed, Claims, Store

_FULL = 5  # polls from one look below the queues' floors to the next, at least
_FULL_SHARE = 0.01  # of the time, at most: behind an old snapshot such a look reads all that is gone
_FIRST = 4  # workflows in the first claim after a takeover
_AFTER_ERROR = 1.0  # seconds before a workflow whose run broke inside the engine may be claimed again


class Worker:
    """Runs workflows of some queues until it is stopped."""

    def __init__(
        self,
        joining: Connector,
        schema: str,
        registry: Registry,
        values: Values,
        observer: Observer | None,
        entropy: random.Random,
        options: WorkerOptions,
        finished: Callable[[int, str, str, str], None],
    ) -> None:
        self._joining = joining
        self._schema = schema
        self._registry = registry
        self._values = values
        self._observer = observer
        self._entropy = entropy
        self._finished = finished
        self.options = options
        self.name = options.name or f"worker-{entropy.getrandbits(40):010x}"
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._strangers: set[str] = set()
        self._in_haste = False
        self._running: dict[int, tuple[Execution, asyncio.Task[None]]] = {}
        self._executor = ThreadPoolExecutor(max_workers=options.concurrency, thread_name_prefix="duress-step")

    def wake(self) -> None:
        """There may be something to claim."""
        self._wake.set()

    def stop(self) -> None:
        """Stop gracefully: claim nothing more, let bodies end, hand over the rest."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until stopped. Raises WorkerNameTaken, SchemaError and the like at the beginning; cancelling stops at once."""
        with numbered_tasks(asyncio.get_running_loop()):
            try:
                while not self._stopping.is_set():
                    await self._incarnation()
            finally:
                self._executor.shutdown(wait=False, cancel_futures=True)
                await self._joining.close()

    async def _incarnation(self) -> None:
        """From joining to leaving, or to being declared dead."""
        options = self.options
        membership = Membership(self._joining, self._schema)
        try:
            joined = await self._join(membership)
        except BaseException:
            await membership.close()
            raise
        if joined is None:
            return
        incarnation, sent, until = joined
        connector = Connector(self._joining.dsn, f"duress:{incarnation}", self._joining.connect_timeout)
        membership.connector = connector
        store = Store(
            connector,
            self._schema,
            self._entropy,
            writers=options.writers,
            deadline=lambda: max(2 * options.lease, 10.0),
        )
        sessions = Sessions(connector, options.transactions, (lock_class(self._schema), incarnation))
        runtime = Runtime(
            self.name,
            incarnation,
            store,
            sessions,
            self._values,
            self._observer,
            self._entropy,
            options,
            self._executor,
            self._finished,
        )
        runtime.lease.renewed(sent + options.lease)
        membership.on_work = self._wake.set
        membership.on_taken = self._hasten
        membership.room = lambda: options.concurrency - len(self._running)
        membership.on_fenced = self._fenced
        log.info("worker %s joined as incarnation %d", self.name, incarnation)
        await _announce(runtime, observer.WORKER_JOINED, {"lease_until": until})
        try:
            await store.warm_up()
            await self._live(runtime, membership)
        finally:
            await self._abandon()
            await membership.close()
            await store.close()
            await sessions.close()

    async def _join(self, membership: Membership) -> tuple[int, float, float] | None:
        """Join, however long the database is away; None if we are stopped meanwhile."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping.is_set():
            try:
                return await membership.join(self.name, self.options.lease, self.options.takeovers, loop.time)
            except (psycopg.Error, TimeoutError, OSError) as error:
                if isinstance(error, psycopg.Error) and not lost(error, None):
                    raise
                failures += 1
                log.warning("worker %s cannot join: %s", self.name, error)
                await membership.close()
                await asyncio.sleep(backoff(failures, self._entropy))
        return None

    async def _live(self, runtime: Runtime, membership: Membership) -> None:
        keep = asyncio.create_task(membership.keep(runtime), name="duress lease")
        others = [
            asyncio.create_task(coroutine, name=name)
            for name, coroutine in (
                ("duress watch", membership.watch(runtime)),
                ("duress blocked", self._name_blockers(runtime)),
                ("duress claims", self._claim(runtime)),
            )
        ]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait({keep, stopping, *others}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # what broke inside the engine is not hidden
            if keep not in done and await self._drain(runtime, keep):
                await self._leave(runtime)
            else:
                log.warning("worker %s: incarnation %d was declared dead", self.name, runtime.incarnation)
                await _announce(runtime, observer.WORKER_LOST, {})
        finally:
            for task in (keep, stopping, *others):
                task.cancel()
            await asyncio.gather(keep, stopping, *others, return_exceptions=True)

    # Claiming

    async def _claim(self, runtime: Runtime) -> None:
        """Claim whenever there is room and reason; ends only when this incarnation is dead."""
        loop = asyncio.get_running_loop()
        options = self.options
        missed = False  # the time of a poll came, and no word before it
        next_poll = 0.0
        next_full = loop.time() + options.poll * _FULL
        while not self._stopping.is_set():
            self._wake.clear()
            room = options.concurrency - len(self._running)
            if room <= 0:
                await self._wake.wait()
                continue
            if self._in_haste:
                room, self._in_haste = min(room, _FIRST), False
            await runtime.lease.wait()
            now = loop.time()
            held = sorted(self._running) if now >= next_poll else None
            claims = await self._ask(runtime, room, held, now >= next_full)
            if not claims.member:
                reachable("a claim was refused: this worker had been declared dead")
                await asyncio.Event().wait()  # the heartbeat learns it too, and ends us
            if now >= next_poll:
                next_poll = now + options.poll
            if now >= next_full:
                next_full = now + max(options.poll * _FULL, (loop.time() - now) / _FULL_SHARE)
                await self._name_strangers(runtime)
            sometimes(
                missed and any(one.epoch == 1 for one in claims.workflows), "a poll found what no notification told"
            )
            for claimed in claims.workflows:
                await self._begin(runtime, claimed)
                await asyncio.sleep(0)  # its first write may leave before the next one has replayed
            if len(claims.workflows) == room or claims.armed:
                continue
            wait = max(0.0, next_poll - loop.time())
            if claims.due_in is not None:
                wait = min(wait, max(0.001, claims.due_in))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            missed = not self._wake.is_set()

    async def _ask(self, runtime: Runtime, room: int, held: list[int] | None, full: bool) -> Claims:
        """Claim, and outlast what the server may say meanwhile (cancelled, out of space), but not a missing schema."""
        failures = 0
        while True:
            try:
                return await runtime.store.claim(
                    runtime.incarnation, self.options.queues, self._registry.names(), room, held, full
                )
            except psycopg.ProgrammingError:
                raise
            except psycopg.Error as error:
                failures += 1
                log.warning("worker %s cannot claim: %s", self.name, error)
                await asyncio.sleep(backoff(failures, self._entropy))

    async def _name_strangers(self, runtime: Runtime) -> None:
        """Log, once for each name, that workflows wait here whose code this worker does not have."""
        found = await inspection.strangers(runtime.store, self.options.queues, self._registry.names())
        for name, example in found:
            if name not in self._strangers:
                self._strangers.add(name)
                log.warning(
                    "workflow %r (for example %s) waits for a worker that has its code: worker %s has no such workflow;"
                    " deploy the code, or cancel it with `duress engine cancel`",
                    name,
                    example,
                    self.name,
                )

    async def _begin(self, runtime: Runtime, claimed: Claimed) -> None:
        definition = self._registry.get(claimed.name)
        assert definition is not None, "claims ask for registered names only"
        if (old := self._running.pop(claimed.number, None)) is not None:
            always(old[0].claimed.epoch < claimed.epoch, "the epoch rises with every claim")
            reachable("a worker claimed anew what it was running")
            old[0].unwind("fenced")  # ours under an older epoch, which somebody took and gave back meanwhile
        execution = Execution(runtime, claimed, definition)
        await execution.point(
            observer.CLAIMED,
            name=claimed.name,
            claimed_at=claimed.claimed_at,
            checkpoints=len(claimed.checkpoints),
            takeovers=claimed.takeovers,
        )
        task = asyncio.create_task(self._run(execution), name=f"workflow {claimed.id}")
        self._running[claimed.number] = (execution, task)

    async def _run(self, execution: Execution) -> None:
        """Run one workflow and hand its row back where that is due."""
        number, epoch = execution.claimed.number, execution.claimed.epoch
        ready_at = execution.claimed.claimed_at + _AFTER_ERROR
        try:
            await execution.run()
        except asyncio.CancelledError:
            raise
        except Exception:
            what = "workflow %s broke inside the engine; it will be tried again"
            log.exception(what, execution.claimed.id, extra=execution.about)
            await self._release(execution, [(number, epoch, ready_at)])
            await execution.point(observer.UNWOUND, why="broken")
        else:
            if execution.unwinding == "suspended" and execution.sleeping.wake_at is not None:
                await self._release(execution, [(number, epoch, execution.sleeping.wake_at)])
            elif execution.unwinding == "broken":
                await self._release(execution, [(number, epoch, ready_at)])
            elif execution.unwinding in ("released", "lost"):
                sometimes(execution.unwinding == "released", "a worker that stops handed a workflow over")
                await self._release(execution, [(number, epoch, None)])
                await execution.point(observer.RELEASED)
            if execution.unwinding != "finished":
                await execution.point(observer.UNWOUND, why=execution.unwinding)
        finally:
            if self._running.get(number, (None,))[0] is execution:
                del self._running[number]
            if len(self._running) >= self.options.concurrency - 1 or execution.unwinding == "suspended":
                self._wake.set()

    @staticmethod
    async def _release(execution: Execution, held: list[tuple[int, int, float | None]]) -> None:
        runtime = execution.runtime
        await runtime.store.release(runtime.incarnation, held)

    def _hasten(self) -> None:
        """Workflows were just taken over: claim a few at once, so that the first goes on before all have been read."""
        self._in_haste = True
        self._wake.set()

    def _fenced(self, number: int) -> None:
        """Somebody cancelled or took a workflow; stop it if it runs here."""
        if number in self._running:
            self._running[number][0].unwind("fenced")

    # Ending

    async def _drain(self, runtime: Runtime, keep: asyncio.Task[None]) -> bool:
        """Let the bodies that run end, for a while; then stop them too. False if we are declared dead meanwhile."""
        for execution, _ in list(self._running.values()):
            execution.drain()
        loop = asyncio.get_running_loop()
        until = loop.time() + self.options.grace
        while self._running and not keep.done() and (left := until - loop.time()) > 0:
            tasks = {task for _, task in self._running.values()}
            await asyncio.wait({keep, *tasks}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        late = {task for _, task in self._running.values()}
        if late and not keep.done():
            for execution, _ in list(self._running.values()):
                what = "workflow %s did not stop within %.0f s"
                log.warning(what, execution.claimed.id, self.options.grace, extra=execution.about)
                execution.unwind("released")
            await asyncio.wait(late, timeout=1.0)
        return not keep.done()

    async def _leave(self, runtime: Runtime) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.lease):
                await runtime.store.leave(runtime.incarnation)
        await _announce(runtime, observer.WORKER_LEFT, {})

    async def _abandon(self) -> None:
        """Stop what still runs, without a trace, and wait until it has let go of its connections."""
        tasks = [task for _, task in self._running.values()]
        for execution, task in self._running.values():
            execution.unwind("fenced")
            if not task.cancelling():  # it has not begun
                task.cancel()
        self._running.clear()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LET_GO + 1.0)  # each waits as long for tasks of its own
            for task in late:
                log.warning("%s does not let itself be cancelled", task.get_name())

    async def _name_blockers(self, runtime: Runtime) -> None:
        """Log who kept the event loop busy until the lease was in danger: nobody else can know."""
        loop = asyncio.get_running_loop()
        interval = self.options.lease / 4
        while True:
            runtime.ended.clear()
            before = loop.time()
            await asyncio.sleep(interval)
            late = loop.time() - before - interval
            if late > self.options.lease / 2:
                suspects = [
                    f"step {name!r} of workflow {workflow!r}"
                    for workflow, name, since in (*runtime.bodies.values(), *runtime.ended)
                    if since <= before + interval + 0.1
                ]
                log.error(
                    "the event loop was blocked for %.1f s (lease %.1f s): user code must not block it; running: %s",
                    late,
                    self.options.lease,
                    ", ".join(suspects) or "code of a workflow between its steps",
                )


async def _announce(runtime: Runtime, name: str, facts: observer.Facts) -> None:
    if (wait := runtime.observe(name, facts)) is not None:
        await wait
