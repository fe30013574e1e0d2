"""Events and plans: which fault, when, and to whom. A plan is data; it means the same in every world."""

from typing import Literal

import msgspec

from .catalogue import AnyFault, Fault, kind_of

PLAN_VERSION = 1


class Trigger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="at"):
    """Base of all triggers; `at` names the kind."""


class AtTime(Trigger, frozen=True, kw_only=True, tag="time"):
    """`seconds` after the workload began."""

    seconds: float


class AtPoint(Trigger, frozen=True, kw_only=True, tag="point"):
    """The `occurrence`-th time (from 1) that the target worker, over all its incarnations, reaches the point `point`.

    `step` narrows it to steps of that name. The worker stops at the point until the fault has taken effect.
    The k-th claim is `workflow.claimed`, the k-th checkpoint `step.checkpointing`, the k-th commit `step.committing`.
    """

    point: str
    occurrence: int = 1
    step: str | None = None


class AtStatement(Trigger, frozen=True, kw_only=True, tag="statement"):
    """The `number`-th exchange (from 1) of the target worker with the server, over all its lives: before the server has it,
    at the `point`-th point (from 1) inside it, or when it is done and the reply has not left. In simulated worlds only.

    Faults of a session or a connection strike the one of the exchange, which goes on when the fault has taken effect.
    """

    number: int
    where: Literal["before", "inside", "after"] = "before"
    point: int = 0


AnyTrigger = AtTime | AtPoint | AtStatement


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, its trigger and its target: a worker's number, or None for any worker.

    Any worker is the first to reach the point; for a time trigger, the one with most work in flight. Faults of the
    server ignore the target except to choose a session.
    """

    trigger: AnyTrigger
    fault: AnyFault
    worker: int | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The faults of one run, in no particular order."""

    version: int = PLAN_VERSION
    events: tuple[Event, ...] = ()


class PlanError(ValueError):
    """A plan that cannot be used. Each of `objections` names a field (`events[0].fault.duration`), its value and what
    would be right; `source` is the file it came from, if any."""

    def __init__(self, *objections: str, source: str | None = None) -> None:
        self.objections = objections
        self.source = source
        where = f"plan {source}" if source else "plan"
        super().__init__(f"{where}: {'; '.join(objections)}")


def kind(part: Fault | Trigger) -> str:
    """The name of a fault or trigger, as JSON and the catalogue have it."""
    return kind_of(type(part))
