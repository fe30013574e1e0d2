"""Every random decision of a run, drawn in separate streams from one seed, recorded, and repeated from a record.

The streams ("schedule", "network", "faults", "workload") have generators of their own: that one asks for more changes
nothing in the others, so each can be shrunk alone. In every decision 0 is the plain choice: the first in line, no fault.
A replay draws 0 once its record has ended.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from . import tokens

FINE = 2**20  # steps of `uniform`
LARGEST_BOUND = 2**32

Watcher = Callable[[str, int, int, str], None]


class Choices:
    """The decisions of one run: `of_seed` draws them, `replay` repeats recorded ones."""

    def __init__(self, seed: int, replayed: Mapping[str, Sequence[int]] | None) -> None:
        self.seed = seed
        self._replayed = None if replayed is None else {name: tuple(values) for name, values in replayed.items()}
        self._streams: dict[str, list[int]] = {}
        self._generators: dict[str, Random] = {}
        self._watchers: list[Watcher] = []
        self.misfits = 0  # recorded decisions for which there were too few possibilities when they were to be repeated

    @classmethod
    def of_seed(cls, seed: int) -> "Choices":
        """Fresh decisions; the same seed gives the same ones to the same questions."""
        return cls(seed, None)

    @classmethod
    def replay(cls, recorded: Mapping[str, Sequence[int]], seed: int = 0) -> "Choices":
        """The recorded decisions. `seed` is the one of the recorded run: ids and the like of the program come from it."""
        return cls(seed, recorded)

    @classmethod
    def from_token(cls, token: str) -> "Choices":
        """What a token stands for. Raises TokenError for another version's, another Python's, or a damaged one."""
        seed, recorded = tokens.decode(token)
        return cls(seed, recorded)

    @property
    def replaying(self) -> bool:
        return self._replayed is not None

    @property
    def recorded(self) -> dict[str, tuple[int, ...]]:
        """What was decided so far, by stream."""
        return {name: tuple(values) for name, values in self._streams.items() if values}

    def token(self, *, whole: bool = False) -> str:
        """One word that repeats the run: short for a run from a seed, with every decision for a replay or if `whole`."""
        if whole or self.replaying:
            return tokens.encode(self.seed, self.recorded)
        return tokens.encode(self.seed, None)

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher(stream, bound, decision, what)` at every recorded decision."""
        self._watchers.append(watcher)

    def generator(self, stream: str) -> Random:
        """The stream's own source: for proposals to `decide`, which are not recorded themselves."""
        generator = self._generators.get(stream)
        if generator is None:
            generator = self._generators[stream] = Random(f"{self.seed}/{stream}")
        return generator

    def draw(self, stream: str, bound: int, what: str = "") -> int:
        """A number from 0 to `bound` - 1; `what` says for a trace what it decides. Only one possibility is no decision."""
        if bound == 1:
            return 0
        if self._replayed is not None:
            return self.decide(stream, bound, 0, what)
        # By random() alone: Python promises the sequence of no other method.
        return self.decide(stream, bound, int(self.generator(stream).random() * bound), what)

    def decide(self, stream: str, bound: int, proposal: int, what: str = "") -> int:
        """Record a decision that somebody worked out; a replay answers what was recorded instead.

        So a run under any scheduler is repeated without it, and shrinks as a list of small numbers.
        """
        if not 0 <= proposal < bound <= LARGEST_BOUND:
            raise ValueError(f"{stream}: {proposal} is not one of {bound} possibilities (at most {LARGEST_BOUND})")
        if bound == 1:
            return 0
        made = self._streams.get(stream)
        if made is None:
            made = self._streams[stream] = []
        if self._replayed is not None:
            known = self._replayed.get(stream, ())
            # A shortened record may ask another question here: the nearest answer keeps small numbers small.
            wanted = known[len(made)] if len(made) < len(known) else 0
            proposal = min(wanted, bound - 1)
            self.misfits += wanted >= bound
        made.append(proposal)
        for watcher in self._watchers:
            watcher(stream, bound, proposal, what)
        return proposal

    def uniform(self, stream: str, low: float, high: float, what: str = "") -> float:
        """A number from `low` up to `high`, in about a million steps; 0 is `low`."""
        return low + (high - low) * (self.draw(stream, FINE, what) / FINE)
