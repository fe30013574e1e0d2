"""The plan vocabulary: what goes wrong in one run, when, and to whom.

A plan is data. It means the same in every world, is written as JSON, and refuses what it does not know by naming the
field. Durations are seconds (float); workers are counted from 0.
"""

from typing import Literal

import msgspec

PLAN_VERSION = 1


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of all faults; `kind` names the fault as the catalogue does."""


class KillWorker(Fault, frozen=True, kw_only=True, tag="kill-worker"):
    """SIGKILL to the worker's process group; started again after `restart_after` seconds, or never (None)."""

    restart_after: float | None = 0.3


class PauseWorker(Fault, frozen=True, kw_only=True, tag="pause-worker"):
    """SIGSTOP, then SIGCONT after `duration` seconds. Longer than the lease makes a zombie."""

    duration: float


class StopWorker(Fault, frozen=True, kw_only=True, tag="stop-worker"):
    """SIGTERM: the worker drains and hands over; started again after `restart_after` seconds, or never (None)."""

    restart_after: float | None = 0.3


class TerminateBackend(Fault, frozen=True, kw_only=True, tag="terminate-backend"):
    """pg_terminate_backend on one session of the worker: in a transaction if there is one, else any of its sessions."""


class CrashBackend(Fault, frozen=True, kw_only=True, tag="crash-backend"):
    """SIGKILL to one backend of the worker: PostgreSQL goes through crash recovery and all sessions are lost."""


class RestartPostgres(Fault, frozen=True, kw_only=True, tag="restart-postgres"):
    """Stop (`fast` or `immediate`) and start the server; it is away for about `down` seconds."""

    mode: Literal["fast", "immediate"] = "fast"
    down: float = 0.0


AnyFault = KillWorker | PauseWorker | StopWorker | TerminateBackend | CrashBackend | RestartPostgres

# By what they strike. An outage takes the server away from everybody, so it needs a server that is ours.
WORKER_FAULTS = (KillWorker, PauseWorker, StopWorker)
OUTAGES = (CrashBackend, RestartPostgres)


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


AnyTrigger = AtTime | AtPoint


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


def kind_of(part: type[Fault] | type[Trigger]) -> str:
    """The same, of a class."""
    tag = part.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


KINDS: dict[str, type[Fault]] = {kind_of(fault): fault for fault in AnyFault.__args__}


def describe(event: Event) -> str:
    """The event as a sentence: `kill worker 2 at its 3rd step.checkpointing of charge; restart it after 0.3 s`."""
    match event.fault:
        case KillWorker(restart_after=after):
            return _deed("kill {}", event) + _return_of_worker(after)
        case PauseWorker(duration=duration):
            return f"{_deed('pause {}', event)} for {duration:g} s"
        case StopWorker(restart_after=after):
            return _deed("stop {} gracefully", event) + _return_of_worker(after)
        case TerminateBackend():
            return _deed("terminate a session of {}", event)
        case CrashBackend():
            return _deed("crash the server by a SIGKILL to a backend of {}", event)
        case RestartPostgres(mode=mode, down=down):
            away = f"; it stays away for {down:g} s" if down else ""
            return _deed(f"restart PostgreSQL ({mode})", event) + away


def describe_trigger(event: Event) -> str:
    """When it happens: `at 0.4 s`, `at its 3rd step.checkpointing of charge`."""
    match event.trigger:
        case AtTime(seconds=seconds):
            return f"at {seconds:g} s"
        case AtPoint(point=point, occurrence=occurrence, step=step):
            of_step = f" of {step}" if step else ""
            return f"at its {_ordinal(occurrence)} {point}{of_step}"


def _deed(verb: str, event: Event) -> str:
    """`its` refers to the worker, so a fault of the server has to name it beside the trigger."""
    point = isinstance(event.trigger, AtPoint)
    anyone = "the first worker" if point else "the busiest worker"
    who = anyone if event.worker is None else f"worker {event.worker}"
    if "{}" in verb:
        return f"{verb.format(who)} {describe_trigger(event)}"
    return f"{verb} when {who} is {describe_trigger(event)}" if point else f"{verb} {describe_trigger(event)}"


def _return_of_worker(after: float | None) -> str:
    return "; it stays away" if after is None else f"; restart it after {after:g} s"


def _ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
