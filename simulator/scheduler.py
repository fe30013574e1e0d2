"""Which of the ready chains goes next.

A scheduler is asked only where there is more than one candidate. It proposes by the "schedule" stream's generator, and
what was picked is recorded as an index into the candidates, which are in the order in which asyncio would run them: 0 is
always asyncio's own choice. So any run, of whichever scheduler, is repeated by `Replay` from its record alone.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from .choices import Choices

STREAM: Final = "schedule"


class Candidate(Protocol):
    """The head of a chain: a task's next step, or the next of one process's plain callbacks."""

    @property
    def id(self) -> int:
        """The chain's number, the same at every step and in every run of the same choices."""
        ...

    @property
    def label(self) -> str: ...

    @property
    def process(self) -> str:
        """The name of the simulated process, empty for the harness."""
        ...


class Scheduler(Protocol):
    """Picks one of several candidates."""

    def pick(self, ready: Sequence[Candidate], choices: Choices) -> int:
        """The index of the candidate that goes next. `ready` has two or more and is the loop's own list: do not keep it."""
        ...


class Fifo:
    """asyncio's own order; decides nothing."""

    def pick(self, ready: Sequence[Candidate], choices: Choices) -> int:
        return 0


class RandomWalk:
    """Each time any of them, all equally likely."""

    def pick(self, ready: Sequence[Candidate], choices: Choices) -> int:
        return choices.draw(STREAM, len(ready))


class Replay(RandomWalk):
    """What was recorded, over `Choices.replay`, whichever scheduler made the record; after its end asyncio's order."""


class Pct:
    """Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010).

    Every chain gets a random priority and the highest always goes; at `depth` - 1 steps, chosen among the first `length`,
    the chain that would go falls below all others. A bug that needs `depth` ordering constraints among n chains is found
    with a probability of at least 1 / (n * length ** (depth - 1)) a run.
    """

    # The proof assumes that every chain ends. One that spins waiting for another would hold it up for ever.
    PATIENCE: Final = 1_000

    def __init__(self, depth: int = 3, length: int = 1_000) -> None:
        if depth < 1 or length < 1:
            raise ValueError(f"depth {depth} and length {length} must be at least 1")
        self.depth = depth
        self.length = length
        self._priorities: dict[int, float] = {}
        self.changes: frozenset[int] = frozenset()  # the steps at which priorities change, drawn when the run begins
        self._step = 0
        self._lowest = 0.0
        self._last = -1
        self._in_a_row = 0

    def pick(self, ready: Sequence[Candidate], choices: Choices) -> int:
        source = choices.generator(STREAM)
        if not self._step:
            self.changes = frozenset(1 + int(source.random() * self.length) for _ in range(1, self.depth))
        priorities = self._priorities
        for candidate in ready:
            if candidate.id not in priorities:
                priorities[candidate.id] = 1.0 + source.random()
        self._step += 1
        index = self._highest(ready)
        self._in_a_row = self._in_a_row + 1 if ready[index].id == self._last else 0
        if self._step in self.changes or self._in_a_row >= self.PATIENCE:
            self._lowest -= 1.0
            priorities[ready[index].id] = self._lowest
            self._in_a_row = 0
            index = self._highest(ready)
        index = choices.decide(STREAM, len(ready), index)
        self._last = ready[index].id
        return index

    def _highest(self, ready: Sequence[Candidate]) -> int:
        priorities = self._priorities
        return max(range(len(ready)), key=lambda index: priorities[ready[index].id])


class Pos:
    """Partial order sampling (Yuan, Yang, Gu, CAV 2018).

    Every step that becomes ready gets a random priority and the highest goes. Then the steps that race with it get new
    ones: without that a step that waits long would go too often first. Which steps race cannot be seen from outside, so
    it is taken of those of one process, which share its memory.
    """

    def __init__(self) -> None:
        self._priorities: dict[int, float] = {}

    def pick(self, ready: Sequence[Candidate], choices: Choices) -> int:
        source = choices.generator(STREAM)
        priorities = self._priorities
        best, index = -1.0, 0
        for number, candidate in enumerate(ready):
            priority = priorities.get(candidate.id)
            if priority is None:
                priority = priorities[candidate.id] = source.random()
            if priority > best:
                best, index = priority, number
        index = choices.decide(STREAM, len(ready), index)
        process = ready[index].process
        for candidate in ready:
            if candidate.process == process:
                del priorities[candidate.id]
        return index
