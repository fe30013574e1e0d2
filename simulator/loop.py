"""SimLoop: an asyncio event loop on virtual time, whose order of steps a scheduler chooses.

In first-in-first-out order it runs every program exactly as asyncio's own loop would on a machine that computes in no
time: the same callbacks in the same order, in the same batches (`BaseEventLoop._run_once`). What is not about order and
time (exception handlers, task factories, debug mode, running and stopping) is asyncio's own code, by inheritance.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextvars import Context, copy_context
from itertools import count
from random import Random
from threading import get_ident
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple

from . import stuck
from .asyncgens import AsyncGenerators
from .choices import Choices
from .clock import SECOND, Clock
from .errors import Escape, SimulationError, Stuck
from .events import Events, Source
from .handles import CURRENT, AnyTask, Callback, Chain, SimFuture, SimHandle, SimTask, SimTimer
from .inline import submit
from .life import End, Life, bury
from .lives import Lives
from .process import Main, SimProcess
from .readings import Readings
from .ready import NEVER, Ready, Timers
from .record import Record
from .refused import Refusals
from .scheduler import STREAM, Fifo, Scheduler

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
STANDSTILL: Final = 1_000_000  # steps at one instant after which a program is taken to spin for ever
logger = logging.getLogger("asyncio")


class SimLoop(Refusals, asyncio.BaseEventLoop):
    """See the module. `most_steps` ends a run that takes more with Stuck; `clock`, `choices` and `record` are public."""

    _stopping: bool
    _debug: bool
    _closed: bool
    _thread_id: int | None
    _current_handle: asyncio.Handle | None

    def __init__(
        self,
        clock: Clock | None = None,
        scheduler: Scheduler | None = None,
        choices: Choices | None = None,
        record: Record | None = None,
        *,
        most_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.clock = clock or Clock()
        self.choices = choices or Choices.of_seed(0)
        self.record = record if record is not None else Record()
        self.scheduler: Scheduler = scheduler or Fifo()
        self.random = Random(f"{self.choices.seed}/")  # the harness's own; a process's is SimProcess.random
        self.escapes: list[str] = []
        self.failure: BaseException | None = None
        self.pids = count(1)
        self.most_steps = most_steps
        self.processes: list[SimProcess] = []
        self._fixed_order = isinstance(self.scheduler, Fifo)
        self._steps = 0
        self._standstill = 0  # steps when time last moved
        self._sources: list[Source] = []
        self._queue = Ready()
        self._timers = Timers()
        self.numbers = count(1)  # of tasks and futures
        self.task_names = count(1)
        self.lives = Lives(self, self._queue, self._timers)
        self.readings = Readings(self.clock, self.lives)
        self._generators = AsyncGenerators(self)
        self._without_executor: set[Life | None] = set()  # who has shut it down
        self.choices.watch(self._note_choice)

    @property
    def process(self) -> SimProcess | None:
        """The simulated process whose code is running, None in the harness."""
        life = CURRENT.get()
        return None if life is None else life.process

    @property
    def steps(self) -> int:
        """How many callbacks have run."""
        return self._steps

    def note(self, process: str, kind: str, text: str) -> None:
        """Append an entry to the record, at the present virtual time."""
        self.record.add(self.clock.now, process, kind, text)

    def _note_choice(self, stream: str, bound: int, decision: int, what: str) -> None:
        if stream != STREAM:  # those are part of the steps that they choose
            self.record.add(self.clock.now, "", "choice", f"{stream}: {what} of {bound}", decision)
        elif what and self.record.takes_remarks:  # no step: of a hold, which shows in what the session does
            self.record.remark(self.clock.now, "", "choice", f"{stream}: {what} of {bound}", decision)

    def refuse(self, call: str, remedy: str) -> NoReturn:
        """Raise Escape and remember the call, for the program may swallow the error."""
        self.escapes.append(call)
        raise Escape(call, remedy)

    def add_source(self, source: Source) -> None:
        """Ask `source` too where time goes next, and tell it whenever time has moved."""
        self._sources.append(source)
        self.clock.watch(source.advance)

    # Callbacks and timers

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if self._debug or self._closed:
            self._check(callback, "call_soon")
        if context is None:
            context = copy_context()
        handle = SimHandle(callback, args, self, context)
        self._queue.put(self._queue.chain_of(callback, context), handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if self._thread_id is not None and self._thread_id != get_ident():
            self.refuse("call_soon_threadsafe from another thread", "run the function by loop.run_in_executor")
        return self.call_soon(callback, *args, context=context)

    def _check(self, callback: Callback, method: str) -> None:
        self._check_closed()  # type: ignore[attr-defined]
        if self._debug:
            self._check_thread()  # type: ignore[attr-defined]
            self._check_callback(callback, method)  # type: ignore[attr-defined]

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if delay is None:
            raise TypeError("delay must not be None")
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if when is None:
            raise TypeError("when cannot be None")
        if self._debug or self._closed:
            self._check(callback, "call_at")
        if context is None:
            context = copy_context()
        life = context.get(CURRENT)
        timer = SimTimer(when, self.readings.timer_at(when, life), callback, args, self, context)
        if life is not None and life.dead:
            bury(timer)
        else:
            self._timers.add(
                timer, timer.local if life is None or timer.local >= NEVER else life.clock.when(timer.local)
            )
        return timer

    def _timer_handle_cancelled(self, timer: SimTimer) -> None:
        self._timers.cancelled(timer)

    def withdraw(self, handle: SimHandle | SimTimer) -> None:
        """A ready callback has been cancelled; for handles to call."""
        self._queue.withdraw(handle)

    def time(self) -> float:
        """Seconds since the run began, on the clock of the process that asks."""
        return self.readings.monotonic() / SECOND

    def fail(self, error: BaseException) -> None:
        """What happens outside of all processes has failed: stop, for nothing after it can be trusted. See `failure`."""
        self.failure = self.failure or error
        self.stop()

    # One iteration

    def _run_once(self) -> None:
        """One batch: what was ready when it began, as asyncio does; what becomes ready meanwhile comes next time."""
        self._begin_batch()
        queue, heads, lives, add, clock = self._queue, self._queue.heads, self.lives, self.record.add, self.clock
        try:
            while queue.batch_left > 0 and heads:
                self._steps += 1
                if self._fixed_order or len(heads) == 1:
                    chain, handle = queue.take(0)
                    add(clock.now, chain.process, "step", chain.label)
                else:
                    chain, handle = self._pick()
                lives.running = chain.owner
                try:
                    if self._debug:
                        self._run_watched(handle)
                    else:
                        handle._run()
                except SystemExit as error:  # of the program in a process, not of ours
                    if chain.owner is None:
                        raise
                    lives.exits(chain.owner, error)
                if chain.task is not None and chain.task.done():
                    self._task_done(chain)
                if lives.doomed:
                    lives.bury_doomed()
                del chain, handle  # a traceback that somebody keeps holds this frame, and would hold them
        finally:
            lives.running = None

    def _pick(self) -> tuple[Chain, SimHandle | SimTimer]:
        heads = self._queue.heads
        index = self.scheduler.pick(heads, self.choices)
        ready = ",".join([str(chain.id) for chain in heads])
        chain, handle = self._queue.take(index)
        self.record.add(self.clock.now, chain.process, "step", f"{chain.label} of {ready}", index)
        return chain, handle

    def _run_watched(self, handle: SimHandle | SimTimer) -> None:
        """In debug mode: say, as asyncio does, which callback held up the loop, by time.sleep for instance."""
        self._current_handle = handle
        life = self.lives.running
        begun = max(self.clock.now, life.blocked_until if life else 0)
        try:
            handle._run()
            took = (max(self.clock.now, life.blocked_until if life else 0) - begun) / SECOND
            if took >= self.slow_callback_duration:
                logger.warning("Executing %r took %.3f seconds", handle, took)
        finally:
            self._current_handle = None
            del handle  # as in _run_once

    def _begin_batch(self) -> None:
        heads = self._queue.heads
        self._collect_due()
        moment, stalls = self.clock.now, 0
        while not heads and not self._stopping:
            self._pass_time()
            self._collect_due()
            stalls = stalls + 1 if self.clock.now == moment else 0
            moment = self.clock.now
            if stalls > 10_000:
                raise SimulationError(
                    f"a source says over and over that it is due at {moment} ns, and nothing comes of it"
                )
        if self.most_steps is not None and self._steps >= self.most_steps:
            raise Stuck(f"the run has taken more than {self.most_steps:,} steps:", self.describe())
        if self._steps - self._standstill > STANDSTILL:
            raise Stuck(f"{STANDSTILL:,} steps and no time has passed, something spins:", self.describe())
        self._queue.begin_batch()

    def _collect_due(self) -> None:
        if self._timers.next_due() <= self.clock.now:
            for timer in self._timers.pop_due(self.clock.now):
                self._queue.put(timer.destined or self._queue.callbacks_of(timer.life), timer)

    def _pass_time(self) -> None:
        """Nothing is ready: time passes until the first timer or source is due. Raises Stuck if there is none."""
        self._standstill = self._steps
        due = self._timers.next_due()
        for source in self._sources:
            at = source.next_at()
            if at is not None and at < due:
                due = at
        if due >= NEVER:
            raise Stuck("nothing can run any more, and nothing will happen:", self.describe())
        if due > self.clock.now:
            self.clock.move_to(due)
            return
        for source in self._sources:
            at = source.next_at()
            if at is not None and at <= self.clock.now:
                source.advance(self.clock.now)

    def describe(self) -> list[str]:
        """Where every task waits, and what the sources know of it."""
        lines = stuck.describe_tasks(self._queue.tasks.items())
        return lines + [line for source in self._sources for line in source.describe()]

    # Tasks, async generators, threads

    def create_future(self) -> asyncio.Future[Any]:
        return SimFuture(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, **options: Any) -> Any:
        """As asyncio; tasks without a name are numbered anew in every run."""
        if self.get_task_factory() is not None:
            return super().create_task(coro, name=name or f"Task-{next(self.task_names)}", **options)
        if self._debug or self._closed:
            self._check_closed()  # type: ignore[attr-defined]
        return SimTask(coro, loop=self, name=name, **options)

    def set_task_factory(self, factory: Any) -> None:
        """asyncio's own factory of eager tasks makes ours."""
        if factory is not None and factory is getattr(asyncio, "eager_task_factory", None):
            factory = asyncio.create_eager_task_factory(SimTask)  # type: ignore[attr-defined]  # of 3.12
        super().set_task_factory(factory)

    def tasks_of(self, life: Life | None) -> list[AnyTask]:
        """The unfinished tasks of one incarnation of a process (None: of the harness), oldest first."""
        return self._queue.tasks_of(life)

    def _task_done(self, chain: Chain) -> None:
        task, life = chain.task, chain.owner
        assert task is not None
        self._queue.forget(task, chain)
        if life is not None and life.main is task and not life.dead:
            error = life.exit or (asyncio.CancelledError() if task.cancelled() else task.exception())
            self.lives.end(life, End("returned") if error is None else End("raised", error))

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        life = CURRENT.get()
        if life is None:
            super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]
        else:
            self._generators.begun(life, agen)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        if not self._generators.dropped(agen):
            super()._asyncgen_finalizer_hook(agen)  # type: ignore[misc]

    async def shutdown_asyncgens(self) -> None:
        """Close the async generators of the process that asks."""
        life = CURRENT.get()
        await (super().shutdown_asyncgens() if life is None else self._generators.shutdown(life))

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        """The function runs in this thread, as one step of its own, whichever executor it was meant for."""
        self._check(func, "run_in_executor")
        if executor is None and CURRENT.get() in self._without_executor:
            raise RuntimeError("Executor shutdown has been called")
        return submit(self, self._queue, func, args)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self._without_executor.add(CURRENT.get())

    def chain(self, label: str) -> Events:
        """A new chain of callbacks that belong to no task and no process."""
        return Events(self, self._queue, self._timers, label)

    # Simulated processes

    def spawn_process(
        self,
        name: str,
        main: Main,
        *,
        offset: float = 0.0,
        drift: float = 0.0,
        stopping: Callable[[], object] | None = None,
    ) -> SimProcess:
        """Start `main` in a simulated process of its own; see SimProcess."""
        if any(process.name == name for process in self.processes):
            raise SimulationError(f"there is a process {name!r} already; restart that one, or take another name")
        process = SimProcess(self, name, main, offset=offset, drift=drift, stopping=stopping)
        self.processes.append(process)
        return process

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Inside a simulated process: `stop` sends it SIGTERM. No other signal ever comes."""
        life = CURRENT.get()
        if life is None:
            self.refuse(
                "loop.add_signal_handler", "call it inside a simulated process, whose `stop` stands for SIGTERM"
            )
        self._check(callback, "add_signal_handler")
        life.signals[sig] = (callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        life = CURRENT.get()
        return life is not None and life.signals.pop(sig, None) is not None

    def close(self) -> None:
        """Processes that still live are killed, and no task that is left goes on: there is no world any more to run a
        `finally` in, and garbage collection would run it in the world of a later run.
        """
        if not self.is_running():
            for process in self.processes:
                if process.alive:
                    process.kill()
        super().close()
        self._queue.bury_all()
        self._timers.bury_all()
