"""One workflow being run by one claim: replay, durable calls, and the ways in which it stops.

It ends (an outcome is written), or its code is unwound without one: it suspended for a long sleep, was fenced, or is handed
over. While it unwinds, durable calls do nothing but let the unwinding pass.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal, NoReturn

import psycopg

from . import failures, observer
from .assertions import reachable, sometimes
from .definitions import StepDefinition, WorkflowDefinition
from .errors import DuressError, NonDeterminism, Unwind
from .runtime import Runtime, log
from .scope import Scope, enter, outside
from .sleeping import Sleeping
from .steps import run_step
from .store import Checkpoint, Claimed, Fence
from .transactions import run_transaction

Why = Literal["suspended", "fenced", "lost", "released", "broken", "finished"]

LET_GO = 5.0  # seconds that user code has for letting itself be cancelled


class Execution:
    """Runs a claimed workflow in this process, until it ends or is unwound."""

    def __init__(self, runtime: Runtime, claimed: Claimed, definition: WorkflowDefinition[..., Any]) -> None:
        self.runtime = runtime
        self.claimed = claimed
        self.definition = definition
        self.unwinding: Why | None = None
        self.draining = False
        self.observed = runtime.observer is not None  # asked on hot paths, to spare a coroutine
        self.sleeping = Sleeping(self)
        self.active = 0  # durable calls under way; sleeps, and waits between attempts, not counted
        self.resting = 0  # tasks that wait between attempts, or for the end of draining
        self.tasks: set[asyncio.Future[Any]] = set()  # child tasks that are not done
        self.root: asyncio.Task[Any] | None = None
        self._astray: NonDeterminism | None = None
        self._recorded = {checkpoint.step: checkpoint for checkpoint in claimed.checkpoints}
        self._last_recorded: dict[str, int] = {}
        for step in self._recorded:
            path, ordinal = _split(step)
            self._last_recorded[path] = max(ordinal, self._last_recorded.get(path, 0))
        # Durable checkpoints of this claim that no later one stands for, by the transaction that wrote them: a write that
        # was sent after they were acknowledged follows them in the log. The claim itself stands for all that it returned.
        self._frontier: dict[object, str] = {}

    @property
    def about(self) -> dict[str, object]:
        """What a log record says of it; see logs."""
        return {"worker": self.runtime.worker, "workflow": self.claimed.id, "epoch": self.claimed.epoch}

    async def run(self) -> None:
        """Run to an end. Raises nothing that user code did."""
        self.root = asyncio.current_task()
        enter(Scope(self))
        try:
            status, outcome = await self._outcome()
            if self.unwinding is None:
                self.active += 1  # a worker that stops waits for it
                with outside():
                    await self._finish(status, outcome)
        except BaseException:
            # While it unwinds, whatever the user's code makes of that is of no account: a TaskGroup wraps it, for example.
            if self.unwinding is None:
                self.unwinding = "lost"
                raise
        finally:
            self.root = None
            if self.unwinding is None:
                self.unwinding = "finished"
            await self._end_tasks()

    async def _end_tasks(self) -> None:
        """Cancel the child tasks that are left, and let them end: a `gather` that is cancelled returns with the first of
        its tasks, and the worker closes the connections that the others still use.
        """
        for task in list(self.tasks):
            if not (isinstance(task, asyncio.Task) and task.cancelling()):
                task.cancel()
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=LET_GO)
            for task in late:
                log.warning("workflow %s: %r does not let itself be cancelled", self.claimed.id, task, extra=self.about)

    async def _outcome(self) -> tuple[str, str]:
        """Run the user's code; the final status and the outcome as JSON text."""
        name, values, signature = self.definition.name, self.runtime.values, self.definition.signature
        try:
            args, kwargs = signature.decode(values, f"workflow {name!r}", self.claimed.input)
            result = await self.definition.function(*args, **kwargs)
            self.check_path()
            self._check_all_replayed()
            text = values.encode(result, f"result of workflow {name!r}")
            values.decode(text, signature.returns, f"result of workflow {name!r}")
            return "succeeded", text
        except BaseException as error:
            if not self.is_outcome(error):
                raise
            error = self._astray or error
            if isinstance(error, DuressError):
                what = "workflow %s (epoch %d) fails: %s"
                log.error(what, self.claimed.id, self.claimed.epoch, type(error).__name__, extra=self.about)
            return "failed", failures.record(error, values)

    async def _finish(self, status: str, outcome: str) -> None:
        await self.point(observer.FINISHING, status=status)
        answer = await self.runtime.store.finish(self.fence(), status, outcome)
        if answer in ("fenced", "lost"):
            await self._lose(answer, None)
        sometimes(answer == "already", "an outcome that was sent again was there already")
        self.runtime.finished(self.claimed.number, self.claimed.id, status, outcome)
        await self.point(observer.FINISHED, status=status)

    # Called by the decorators' wrappers

    async def call(
        self, scope: Scope, step: StepDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A durable call of a step or transaction: its recorded outcome, or its body's, recorded now."""
        if self.draining:
            await self.park()
        id_ = self.next_step(scope)
        with outside():
            recorded = await self.replay(id_, step.name, step.kind)
            if recorded is None:
                self.active += 1
                try:
                    run = run_transaction if step.kind == "transaction" else run_step
                    recorded = await run(self, step, id_, args, kwargs)
                finally:
                    self.active -= 1
                    self._calm()
        if recorded.failed:
            raise failures.restore(recorded.value, self.runtime.values)
        return self.runtime.values.decode(
            recorded.value, step.signature.returns, f"result of {step.kind} {step.name!r}"
        )

    async def race(self, scope: Scope, coroutines: tuple[Coroutine[Any, Any, Any], ...]) -> tuple[int, Any]:
        """Run all, record which ended first, cancel the others; a replay runs only the winner."""
        if self.draining:
            await self.park()
        step = self.next_step(scope)
        recorded = await self.replay(step, "race", "race")
        if recorded is not None:
            winner = int(recorded.value)
            for index, coroutine in enumerate(coroutines):
                if index == winner:
                    task = asyncio.ensure_future(coroutine)
                else:
                    scope.child()  # the losers had numbers too
                    coroutine.close()
            return winner, await task
        tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            winner = next(index for index, task in enumerate(tasks) if task.done())
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.check()
        with outside():
            await self.write(Checkpoint(step, "race", "race", False, str(winner)))
        return winner, tasks[winner].result()

    # For steps, transactions and sleeps

    def check(self) -> None:
        """Raise Unwind if the workflow is to stop."""
        if self.unwinding is not None:
            raise Unwind

    def check_path(self) -> None:
        """Raise the NonDeterminism that was found before: no `except` of the workflow's code gets it past that."""
        if self._astray is not None:
            raise self._astray

    def is_outcome(self, error: BaseException) -> bool:
        """Whether what user code raised is how it ended, not the way in which somebody stops it."""
        if self.unwinding is not None:
            return False
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            return task is not None and not task.cancelling()
        return not isinstance(error, (Unwind, KeyboardInterrupt, GeneratorExit))

    def next_step(self, scope: Scope) -> str:
        """The id of the durable call that is made now."""
        self.check()
        self.check_path()
        return scope.next_step()

    async def replay(self, step: str, name: str, kind: str) -> Checkpoint | None:
        """The recorded checkpoint of this call, if there is one; NonDeterminism if another call was recorded."""
        recorded = self._recorded.pop(step, None)
        if recorded is None:
            path, ordinal = _split(step)
            if ordinal < self._last_recorded.get(path, 0):
                self._go_astray(
                    f"asks for {kind} {name!r} at place {step}, where nothing was recorded, but place"
                    f" {path}{self._last_recorded[path]} was"
                )
            return None
        if (recorded.name, recorded.kind) != (name, kind):
            self._go_astray(
                f"asks for {kind} {name!r} at place {step}, where {recorded.kind} {recorded.name!r} was recorded"
            )
        if self.observed:
            await self.point(observer.REPLAYED, step=step, name=name)
        return recorded

    def fence(self) -> Fence:
        """What a write of this claim names now."""
        claimed = self.claimed
        return Fence(self.runtime.incarnation, claimed.number, claimed.epoch, tuple(self._frontier.values()))

    async def write(self, checkpoint: Checkpoint) -> str:
        """Make a checkpoint durable: "written", or "already" by this claim. Raises Unwind if it is not ours any more."""
        if self.observed:
            await self.point(observer.CHECKPOINTING, step=checkpoint.step, name=checkpoint.name)
        before = list(self._frontier)
        try:
            answer, token = await self.runtime.store.checkpoint(self.fence(), checkpoint)
        except psycopg.Error as error:
            # Not the workflow's doing: its code must not take it for the outcome of the step.
            what = "workflow %s: step %s cannot be recorded: %s"
            log.error(what, self.claimed.id, checkpoint.step, error, extra=self.about)
            self.unwind("broken")
            raise Unwind from error
        await self.settle(answer, checkpoint.step, checkpoint.name, before, token)
        return answer

    def frontier(self) -> list[object]:
        """The transactions that a write sent now stands for."""
        return list(self._frontier)

    async def settle(self, answer: str, step: str, name: str, before: list[object], token: object) -> None:
        """Take in the answer to a write of `step` that was sent when `before` was the frontier."""
        if answer in ("fenced", "lost"):
            await self._lose(answer, step)
        if answer == "conflict":
            self._go_astray(f"asks for {name!r} at place {step}, which another claim has recorded already")
        sometimes(answer == "already", "a checkpoint that was sent again was there already")
        for done in before:
            self._frontier.pop(done, None)
        self._frontier[token] = step
        if self.observed:
            await self.point(observer.CHECKPOINTED, step=step, name=name)

    async def _lose(self, answer: str, step: str | None) -> None:
        """The database says that this workflow is not ours, or that it knows less than we do: stop without a trace."""
        sometimes(answer == "fenced" and step is None, "an outcome was refused by the fence")
        sometimes(answer == "fenced" and step is not None, "a checkpoint was refused by the fence")
        await self.point(observer.FENCED, step=step)
        what = "workflow %s: %s under epoch %d, giving it up"
        log.warning(what, self.claimed.id, answer, self.claimed.epoch, extra=self.about)
        self.unwind("lost" if answer == "lost" else "fenced")
        raise Unwind

    # Stopping

    def adopt(self, task: asyncio.Future[Any]) -> None:
        """Know a child task, so that it can be stopped with the rest."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def unwind(self, why: Why) -> None:
        """Stop the workflow's code: from now on its durable calls raise, and what waits is cancelled."""
        if self.unwinding is not None:
            return
        self.unwinding = why
        current = asyncio.current_task()
        tasks = [task for task in (self.root, *self.tasks) if isinstance(task, asyncio.Task) and task is not current]
        before = [task.cancelling() for task in tasks]
        for task, cancels in zip(tasks, before, strict=True):
            # Whoever waits for others passes it on to them; a second one would cut short how they end their statements.
            if task.cancelling() == cancels:
                task.cancel()

    def drain(self) -> None:
        """Stop at the next durable call; bodies that run may end and are recorded."""
        self.draining = True
        if not self.active:
            self.unwind("released")

    async def park(self) -> None:
        """Where a workflow that drains stops: here, until the bodies of its other tasks have ended."""
        self.check()
        self.resting += 1
        try:
            self._calm()
            self.check()
            await asyncio.get_running_loop().create_future()  # to be cancelled
        finally:
            self.resting -= 1

    async def rest(self, seconds: float) -> None:
        """Wait between two attempts of a body, which a workflow that drains does not."""
        self.active -= 1
        try:
            if self.draining:
                await self.park()
            self.resting += 1
            try:
                await asyncio.sleep(seconds)
            finally:
                self.resting -= 1
            self.check()
            if self.draining:
                await self.park()
        finally:
            self.active += 1

    def _calm(self) -> None:
        """A durable call has ended: if it was the last that a draining workflow waited for, the rest stops."""
        if self.draining and not self.active and (self.resting or self.sleeping.dozing):
            reachable("a worker that stops waited for a body")
            self.unwind("released")

    async def point(self, point: str, /, **facts: str | float | bool | None) -> None:
        """Announce a point of this workflow, and wait for as long as the observer wants."""
        if self.runtime.observer is not None:
            about = {"workflow": self.claimed.id, "epoch": self.claimed.epoch, **facts}
            if (wait := self.runtime.observe(point, about)) is not None:
                await wait

    def _check_all_replayed(self) -> None:
        left = min((step for step in self._recorded if "/" not in step), key=int, default=None)
        if left is not None:
            recorded = self._recorded[left]
            self._go_astray(f"ended before place {left}, where {recorded.kind} {recorded.name!r} was recorded")

    def _go_astray(self, how: str) -> NoReturn:
        self._astray = self._astray or NonDeterminism(
            f"workflow {self.claimed.id!r} {how}: its code is not deterministic, or was changed"
        )
        raise self._astray


def _split(step: str) -> tuple[str, int]:
    """The task path and the ordinal of a step id."""
    path, slash, ordinal = step.rpartition("/")
    return path + slash, int(ordinal)
