"""A run as the search for a smaller one sees it: what may be changed of it, and how large it is."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from duress.faults.plan import Plan
from duress.scenarios.campaign import Order, draw
from duress.scenarios.observed import Observed
from duress.scenarios.result import Size
from duress.scenarios.settings import Settings, Simulating
from duress.scenarios.sim.wire import Variation
from duress.simulator import shrinking

Recorded = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Variant:
    """All that may be changed of a run. Its seed stays, and so do ids, amounts, and what a receiver answers."""

    plan: Plan
    options: Mapping[str, int]
    settings: Settings
    choices: Recorded | None  # None: the seed decides

    @classmethod
    def of(cls, order: Order, seed: int) -> "Variant":
        """The run of a seed, as it was ordered."""
        work = order.work
        plan = order.plan if order.plan is not None else draw(order, seed)
        return cls(plan, dict(work.options), work.settings, work.simulating.choices)

    @property
    def key(self) -> bytes:
        """Equal for variants that are the same run."""
        choices = None if self.choices is None else {name: list(part) for name, part in sorted(self.choices.items())}
        parts = (self.plan, sorted(self.options.items()), self.settings, choices)
        return msgspec.msgpack.encode(parts)

    def simulating(self, how: Simulating, *, trace: bool) -> Simulating:
        """How the run is simulated, where `how` is the way of the others."""
        return dataclasses.replace(how, choices=self.choices, decisions=True, trace=trace, twice_every=0)

    def variation(self, how: Simulating, *, trace: bool = False) -> Variation:
        """What a cell is told of it."""
        return Variation(options=self.options, settings=self.settings, simulating=self.simulating(how, trace=trace))

    def ordered(self, order: Order) -> Order:
        """The order of this run."""
        simulating = dataclasses.replace(order.work.simulating, choices=self.choices)
        work = dataclasses.replace(order.work, options=self.options, settings=self.settings, simulating=simulating)
        return dataclasses.replace(order, work=work, plan=self.plan)


@dataclass(frozen=True, slots=True)
class Trial:
    """A variant that was run, with the decisions that were really made, and broke the promise."""

    variant: Variant
    observed: Observed
    message: str
    workflow: str | None  # that it is about

    @property
    def pieces(self) -> tuple[int, ...]:
        """Of the workload, as far as it tells them."""
        return self.observed.simulated.pieces if self.observed.simulated is not None else ()

    @property
    def size(self) -> Size:
        return size_of(self.variant, self.observed)


def size_of(variant: Variant, observed: Observed) -> Size:
    """What shrinking makes less."""
    choices = variant.choices or {}
    return Size(
        faults=len(variant.plan.events),
        workflows=len(observed.evidence.final.workflows),
        workers=variant.settings.workers,
        events=len(observed.evidence.history),
        choices=shrinking.weight(choices)[0],
    )
