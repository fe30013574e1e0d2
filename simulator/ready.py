"""What is ready to run, as chains in the order in which asyncio would run them, and the timers that are not due yet."""

import heapq
from bisect import insort
from collections.abc import Callable
from contextvars import Context
from operator import attrgetter
from typing import Final

from .handles import CURRENT, AnyTask, Callback, Chain, SimHandle, SimTask, SimTimer, task_of
from .life import Life, bury

NEVER: Final = 2**62  # ns, 146 years: further timers are never waited for
_ORDER: Final = attrgetter("order")


class Ready:
    """Ready callbacks. `heads` are the chains that may go next, by the number of their first callback.

    Callbacks go in batches, as in asyncio: `batch_left` counts those that were ready when the batch began and still are.
    """

    def __init__(self) -> None:
        self.heads: list[Chain] = []
        self.tasks: dict[AnyTask, Chain] = {}  # holds every task that is not done: none ends by garbage collection
        self.harness = Chain(0, "callbacks", None, None)
        self.batch_left = 0
        self._batch_end = 0
        self._numbers = 0
        self._ids = 0

    def chain_of(self, callback: Callback, context: Context) -> Chain:
        """The chain that a callback belongs to; a task's begins here when the task is scheduled for the first time."""
        task = task_of(callback)
        if task is not None:
            chain = task.chain if type(task) is SimTask else self.tasks.get(task)
            if chain is not None:
                return chain
        life = context.get(CURRENT)
        if task is None or (life is not None and life.dead):
            return self.callbacks_of(life)
        coroutine = task.get_coro()
        label = getattr(coroutine, "__qualname__", None) or type(coroutine).__name__
        chain = self.tasks[task] = self.new_chain(label, life, task)
        if type(task) is SimTask:
            task.chain = chain
        return chain

    def callbacks_of(self, life: Life | None) -> Chain:
        """The chain of a process's plain callbacks, or of the harness's."""
        if life is None:
            return self.harness
        if life.callbacks is None:
            life.callbacks = self.new_chain("callbacks", life)
        return life.callbacks

    def new_chain(self, label: str, life: Life | None, task: AnyTask | None = None) -> Chain:
        self._ids += 1
        return Chain(self._ids, f"{label}#{self._ids}", life, task)

    def put(self, chain: Chain, handle: SimHandle | SimTimer) -> None:
        """Append to the chain; one that had nothing becomes a candidate, the last in line."""
        owner = chain.owner
        self._numbers = number = self._numbers + 1
        handle.number = number
        handle.chain = chain
        queue = chain.queue
        queue.append(handle)
        if len(queue) == 1:
            chain.order = number
            if owner is None or owner.running:
                self.heads.append(chain)

    def take(self, index: int) -> tuple[Chain, SimHandle | SimTimer]:
        """The first callback of the candidate with this index; it is not ready any more."""
        self.batch_left -= 1
        chain = self.heads.pop(index)
        handle = chain.queue.popleft()
        handle.chain = None
        if chain.queue:
            chain.order = chain.queue[0].number
            insort(self.heads, chain, key=_ORDER)
        return chain, handle

    def begin_batch(self) -> None:
        self.batch_left = sum([len(chain.queue) for chain in self.heads])
        self._batch_end = self._numbers + 1

    def withdraw(self, handle: SimHandle | SimTimer) -> None:
        """A callback that was ready has been cancelled."""
        chain, handle.chain = handle.chain, None
        assert chain is not None
        listed = chain.owner is None or chain.owner.running
        if listed:
            self.heads.remove(chain)
            self.batch_left -= handle.number < self._batch_end
        chain.queue.remove(handle)
        if chain.queue:
            chain.order = chain.queue[0].number
            if listed:
                insort(self.heads, chain, key=_ORDER)

    def forget(self, task: AnyTask, chain: Chain) -> None:
        """A task is done. Each knew the other, and nothing but garbage collection would free them."""
        self.tasks.pop(task, None)
        chain.task = None
        if type(task) is SimTask:
            task.chain = None

    def hold(self, life: Life) -> None:
        """Its callbacks stay where they are and are no candidates."""
        if life.running:
            life.running = False
            held = [chain for chain in self.heads if chain.owner is life]
            self.batch_left -= sum(handle.number < self._batch_end for chain in held for handle in chain.queue)
            self.heads[:] = [chain for chain in self.heads if chain.owner is not life]

    def release(self, life: Life) -> None:
        """They are candidates again, and keep their order among themselves, behind all others as new arrivals are."""
        life.running = True
        chains = [chain for chain in self._chains_of(life) if chain.queue]
        for handle in sorted((handle for chain in chains for handle in chain.queue), key=lambda handle: handle.number):
            self._numbers = handle.number = self._numbers + 1
        for chain in chains:
            chain.order = chain.queue[0].number
        self.heads += sorted(chains, key=_ORDER)

    def remove(self, life: Life) -> None:
        """Its callbacks and tasks go to the graveyard."""
        self.hold(life)
        for chain in self._chains_of(life):
            bury(*chain.queue)
            for handle in chain.queue:
                handle.chain = None
            chain.queue.clear()
            if chain.task is not None:
                chain.task._log_destroy_pending = False  # type: ignore[attr-defined]
                bury(chain.task)
                del self.tasks[chain.task]

    def bury_all(self) -> None:
        """Everything that is left when the loop is closed goes to the graveyard."""
        for task, chain in self.tasks.items():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            bury(task, chain)
        bury(self.harness, *self.heads)
        self.heads.clear()
        self.tasks.clear()

    def tasks_of(self, life: Life | None) -> list[AnyTask]:
        """The tasks of a process that are not done, oldest first."""
        return [task for task, chain in self.tasks.items() if chain.owner is life]

    def _chains_of(self, life: Life) -> list[Chain]:
        chains = [chain for chain in self.tasks.values() if chain.owner is life]
        chains += life.threads
        if life.callbacks is not None:
            chains.append(life.callbacks)
        return chains


class Timers:
    """Timers by when they are due on the run's clock; those of one moment in the order in which they were set.

    asyncio's own order for exactly equal times is whatever its heap makes of it, but there no two calls see one time.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, SimTimer]] = []
        self._numbers = 0
        self._cancelled = 0

    def add(self, timer: SimTimer, due: int) -> None:
        self._numbers += 1
        heapq.heappush(self._heap, (due, self._numbers, timer))
        timer._scheduled = True  # type: ignore[attr-defined]

    def cancelled(self, timer: SimTimer) -> None:
        """To be told of every timer that is cancelled."""
        if timer._scheduled:  # type: ignore[attr-defined]
            self._cancelled += 1
            if self._cancelled > 100 and self._cancelled > len(self._heap) // 2:
                self._keep(lambda other: not other._cancelled and other is not timer)
                self._cancelled = 0

    def next_due(self) -> int:
        """When the first is due; NEVER if there is none."""
        heap = self._heap
        while heap and heap[0][2]._cancelled:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else NEVER

    def pop_due(self, now: int) -> list[SimTimer]:
        """Those that are due, in order."""
        due = []
        while self.next_due() <= now:
            timer = heapq.heappop(self._heap)[2]
            timer._scheduled = False  # type: ignore[attr-defined]
            due.append(timer)
        return due

    def retime(self, life: Life) -> None:
        """The clock of a process runs at another rate: its timers come at other moments."""
        for index, (_, number, timer) in enumerate(self._heap):
            if timer.life is life:
                self._heap[index] = (life.clock.when(timer.local), number, timer)
        heapq.heapify(self._heap)

    def remove(self, life: Life) -> None:
        """The timers of a process go to the graveyard."""
        bury(*(timer for _, _, timer in self._heap if timer.life is life))
        self._keep(lambda timer: timer.life is not life)
        self._cancelled = sum(timer._cancelled for _, _, timer in self._heap)

    def bury_all(self) -> None:
        """Everything that is left when the loop is closed goes to the graveyard."""
        bury(*self._heap)
        self._heap.clear()

    def _keep(self, which: Callable[[SimTimer], bool]) -> None:
        for _, _, timer in self._heap:
            if not which(timer):
                timer._scheduled = False  # type: ignore[attr-defined]
        self._heap = [entry for entry in self._heap if which(entry[2])]
        heapq.heapify(self._heap)
