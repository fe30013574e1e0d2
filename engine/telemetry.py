"""Traces and metrics for OpenTelemetry, told by an observer: `Engine(dsn, observer=Telemetry())`. Needs `duress[otel]`.

One trace for each workflow: its id decides the trace's, so that all workers add to the same one without telling each
other. In it, for each claim, a span `workflow NAME` with the claim as an event; below it `recovery NAME` (after a takeover,
until the first new checkpoint), `step NAME` (to its checkpoint), and in that an `attempt NAME` for each time its body ran,
which is current while it runs: what the body's own instrumentation tells lies below it. A takeover is a trace of its own.
The clock is the SDK's, so spans of a simulated run carry its virtual time (with providers made before the run, and a
SimpleSpanProcessor: the batching one needs a thread). Never in spans or metrics: what workflows and steps are given and return.
"""

import asyncio
from collections.abc import Mapping
from contextvars import Token
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from . import observer
from .errors import ConfigurationError
from .observer import Facts

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
except ImportError as error:
    raise ConfigurationError(
        "duress.engine.telemetry needs OpenTelemetry, which is not installed: pip install 'duress[otel]'"
    ) from error

NAME: Final = "duress.engine"
WORKER, INCARNATION = "duress.worker", "duress.incarnation"
WORKFLOW, WORKFLOW_NAME, EPOCH = "duress.workflow.id", "duress.workflow.name", "duress.epoch"
STEP, STEP_NAME, ATTEMPT, KEY = "duress.step.id", "duress.step.name", "duress.attempt", "duress.idempotency_key"
OUTCOME, TAKEOVERS = "duress.outcome", "duress.takeovers"
_ENDS: Final = {
    observer.SUSPENDED: "suspended",
    observer.RELEASED: "released",
    observer.FENCED: "fenced",
}


@dataclass(slots=True)
class _Open:
    """A span that has begun; `since` by the event loop's clock."""

    span: Span
    since: float
    token: Token[Any] | None = None  # of the context in which it is current


@dataclass(slots=True)
class _Claim:
    """What is open of one workflow under one epoch."""

    run: _Open
    about: dict[str, Any]
    name: str
    recovery: _Open | None = None
    steps: dict[str, _Open] = field(default_factory=dict)
    attempts: dict[str, _Open] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)  # steps whose last attempt failed
    outcome: str | None = None


class Telemetry:
    """An engine observer that tells OpenTelemetry. Without providers the global ones are told.

    `ratio` is the share of workflows that are traced, the same ones by every worker. `namespace` keeps apart what two
    databases call by the same id.
    """

    def __init__(
        self,
        *,
        tracer_provider: "trace.TracerProvider | None" = None,
        meter_provider: "metrics.MeterProvider | None" = None,
        ratio: float = 1.0,
        namespace: str = "",
    ) -> None:
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        self._measure = _Instruments(metrics.get_meter(NAME, meter_provider=meter_provider))
        self._ratio = ratio
        self._namespace = namespace
        self._claims: dict[tuple[Any, Any, Any], _Claim] = {}  # incarnation, workflow, epoch
        self._starts: dict[Any, Span] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = {
            observer.CLAIMED: self._claimed,
            observer.REPLAYED: self._replayed,
            observer.STARTED: self._started,
            observer.ENDED: self._ended,
            observer.CHECKPOINTING: self._checkpointing,
            observer.CHECKPOINTED: self._checkpointed,
            observer.AMBIGUOUS: self._noted,
            observer.RESOLVED: self._noted,
            observer.FIRED: self._noted,
            observer.FINISHED: self._finished,
            observer.UNWOUND: self._unwound,
        }

    def point(self, name: str, facts: Facts) -> None:
        """Called by the engine."""
        if (ending := _ENDS.get(name)) is not None:
            if (claim := self._claim(facts)) is not None:
                claim.outcome = ending
        elif (tell := self._told.get(name)) is not None:
            tell(name, facts)
        elif name == observer.TOOK_OVER:
            self._took_over(facts)
        elif name in (observer.WORKER_LOST, observer.WORKER_LEFT):
            self._end_all("lost", facts["incarnation"])
        elif name == observer.STARTING:
            self._starting(facts)
        elif name == observer.ACCEPTED:
            self._accepted(facts)

    def close(self) -> None:
        """End all open spans: for a worker that was cancelled, whose engine cannot tell."""
        self._end_all("abandoned", None)

    def _now(self) -> float:
        """By the event loop's clock, also after its end."""
        return 0.0 if self._loop is None else self._loop.time()

    # The client's side

    def _starting(self, facts: Facts) -> None:
        trunk = self._trunk(str(facts["workflow"]))
        within = trace.get_current_span().get_span_context().is_valid
        self._starts[facts["workflow"]] = self._tracer.start_span(
            f"start {facts['name']}",
            context=None if within else _below(trunk),
            kind=SpanKind.PRODUCER,
            links=[Link(trunk)] if within else [],
            attributes={WORKFLOW: str(facts["workflow"]), WORKFLOW_NAME: str(facts["name"])},
        )

    def _accepted(self, facts: Facts) -> None:
        if (span := self._starts.pop(facts["workflow"], None)) is not None:
            span.set_attribute("duress.existed", bool(facts["existed"]))
            span.end()

    def _trunk(self, workflow: str) -> SpanContext:
        """What all spans of a workflow lie below, whoever's they are; no span itself."""
        digest = blake2b(f"{self._namespace}\0{workflow}".encode("utf-8", "surrogatepass"), digest_size=24).digest()
        trace_id, span_id = int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:], "big")
        sampled = trace_id % 2**64 < self._ratio * 2**64
        return SpanContext(trace_id or 1, span_id or 1, is_remote=True, trace_flags=TraceFlags(1 if sampled else 0))

    # The worker's side

    def _claim(self, facts: Facts) -> _Claim | None:
        return self._claims.get((facts["incarnation"], facts["workflow"], facts["epoch"]))

    def _claimed(self, _: str, facts: Facts) -> None:
        self._loop = asyncio.get_running_loop()
        name = str(facts["name"])
        about = {
            WORKER: facts["worker"],
            INCARNATION: facts["incarnation"],
            WORKFLOW: facts["workflow"],
            WORKFLOW_NAME: name,
            EPOCH: facts["epoch"],
        }
        begun = self._begin(
            f"workflow {name}", _below(self._trunk(str(facts["workflow"]))), about, kind=SpanKind.CONSUMER
        )
        begun.span.add_event(
            "claimed", {"duress.checkpoints": facts["checkpoints"] or 0, TAKEOVERS: facts["takeovers"] or 0}
        )
        claim = _Claim(begun, about, name)
        if facts["takeovers"]:
            claim.recovery = self._begin(f"recovery {name}", _in(begun), {**about, TAKEOVERS: facts["takeovers"]})
        self._claims[facts["incarnation"], facts["workflow"], facts["epoch"]] = claim
        self._measure.claims.add(1, {WORKER: about[WORKER], WORKFLOW_NAME: name})
        self._measure.running.add(1, {WORKER: about[WORKER]})

    def _replayed(self, _: str, facts: Facts) -> None:
        if (claim := self._claim(facts)) is not None:
            claim.run.span.add_event("replayed", {STEP: str(facts["step"]), STEP_NAME: str(facts["name"])})
            self._measure.replays.add(1, {STEP_NAME: str(facts["name"])})

    def _step(self, claim: _Claim, facts: Facts) -> _Open:
        """The step's span, which begins with whatever is heard of it first."""
        step = str(facts["step"])
        if step not in claim.steps:
            about = {**claim.about, STEP: step, STEP_NAME: facts["name"]}
            claim.steps[step] = self._begin(f"step {facts['name']}", _in(claim.run), about)
        return claim.steps[step]

    def _started(self, _: str, facts: Facts) -> None:
        if (claim := self._claim(facts)) is None:
            return
        about = {STEP: facts["step"], STEP_NAME: facts["name"], ATTEMPT: facts["attempt"], KEY: facts["key"]}
        inside = _in(self._step(claim, facts))
        begun = self._begin(f"attempt {facts['name']}", inside, {**claim.about, **about})
        # In the body's own task, until `step.ended`, which comes in the same one.
        begun.token = context.attach(trace.set_span_in_context(begun.span))
        claim.attempts[str(facts["step"])] = begun

    def _ended(self, _: str, facts: Facts) -> None:
        claim = self._claim(facts)
        begun = claim.attempts.pop(str(facts["step"]), None) if claim is not None else None
        if claim is None or begun is None:
            return
        if begun.token is not None:
            context.detach(begun.token)
        step, outcome = str(facts["step"]), str(facts["outcome"])
        claim.failed.discard(step)
        if outcome != "ok":
            claim.failed.add(step)
        self._end(begun, outcome, error=outcome != "ok")
        self._measure.attempts.add(1, {STEP_NAME: str(facts["name"]), OUTCOME: outcome})

    def _checkpointing(self, _: str, facts: Facts) -> None:
        if (claim := self._claim(facts)) is not None:
            self._step(claim, facts).span.add_event("checkpointing")

    def _checkpointed(self, _: str, facts: Facts) -> None:
        claim = self._claim(facts)
        begun = claim.steps.pop(str(facts["step"]), None) if claim is not None else None
        if claim is None or begun is None:
            return
        error = str(facts["step"]) in claim.failed
        outcome = "error" if error else "ok"
        claim.failed.discard(str(facts["step"]))
        self._measure.step.record(self._now() - begun.since, {STEP_NAME: str(facts["name"]), OUTCOME: outcome})
        self._end(begun, outcome, error=error)
        self._recovered(claim, "ok")

    def _noted(self, name: str, facts: Facts) -> None:
        """What is an event in a step, or in the workflow where none is open."""
        if (claim := self._claim(facts)) is None:
            return
        about = {STEP: str(facts["step"]), STEP_NAME: str(facts["name"])}
        if name == observer.RESOLVED:
            about["duress.present"] = str(facts["present"]).lower()
            self._measure.ambiguous.add(1, {"duress.present": about["duress.present"]})
        claim.steps.get(str(facts["step"]), claim.run).span.add_event(name, about)

    def _recovered(self, claim: _Claim, outcome: str) -> None:
        if claim.recovery is not None:
            if outcome == "ok":
                self._measure.recovery.record(self._now() - claim.recovery.since, {WORKFLOW_NAME: claim.name})
            self._end(claim.recovery, outcome)
            claim.recovery = None

    def _finished(self, _: str, facts: Facts) -> None:
        key = facts["incarnation"], facts["workflow"], facts["epoch"]
        if (claim := self._claims.pop(key, None)) is not None:
            self._recovered(claim, "ok")
            self._let_go(claim, str(facts["status"]))

    def _unwound(self, _: str, facts: Facts) -> None:
        key = facts["incarnation"], facts["workflow"], facts["epoch"]
        if (claim := self._claims.pop(key, None)) is not None:
            self._let_go(claim, claim.outcome or str(facts["why"]))

    def _took_over(self, facts: Facts) -> None:
        about = {
            WORKER: facts["worker"],
            INCARNATION: facts["incarnation"],
            "duress.victim": facts["victim"],
            "duress.reason": facts["reason"],
            "duress.workflows": facts["workflows"],
        }
        self._begin("takeover", context.Context(), about).span.end()
        self._measure.takeovers.add(1, {WORKER: about[WORKER], "duress.reason": about["duress.reason"]})

    def _end_all(self, outcome: str, incarnation: object) -> None:
        for key in [key for key in self._claims if incarnation is None or key[0] == incarnation]:
            self._let_go(self._claims.pop(key), outcome)

    # Spans

    def _begin(
        self, name: str, inside: "context.Context", about: Mapping[str, Any], kind: SpanKind = SpanKind.INTERNAL
    ) -> _Open:
        return _Open(self._tracer.start_span(name, context=inside, kind=kind, attributes=about), self._now())

    def _end(self, begun: _Open, outcome: str, *, error: bool = False) -> None:
        begun.span.set_attribute(OUTCOME, outcome)
        if error:
            begun.span.set_status(Status(StatusCode.ERROR))
        begun.span.end()

    def _let_go(self, claim: _Claim, outcome: str) -> None:
        """End what is open of a claim, the innermost first."""
        self._recovered(claim, outcome)
        for begun in (*claim.attempts.values(), *claim.steps.values()):
            self._end(begun, outcome)
        about = {WORKFLOW_NAME: claim.name, OUTCOME: outcome}
        self._measure.runs.record(self._now() - claim.run.since, about)
        self._measure.running.add(-1, {WORKER: claim.about[WORKER]})
        self._end(claim.run, outcome, error=outcome == "failed")


class _Instruments:
    """What is counted and measured. No workflow's id and no epoch: each would be a series of its own."""

    def __init__(self, meter: "metrics.Meter") -> None:
        self.claims = meter.create_counter("duress.workflow.claims", "{claim}", "Workflows that were claimed")
        self.running = meter.create_up_down_counter("duress.workflow.running", "{workflow}", "Workflows that run now")
        self.runs = meter.create_histogram("duress.workflow.run.duration", "s", "From a claim to its end")
        self.step = meter.create_histogram("duress.step.duration", "s", "From a step's begin to its checkpoint")
        self.attempts = meter.create_counter("duress.step.attempts", "{attempt}", "Bodies that ran to an end")
        self.replays = meter.create_counter("duress.step.replays", "{step}", "Steps answered from their checkpoints")
        self.ambiguous = meter.create_counter(
            "duress.commit.ambiguous", "{commit}", "COMMITs without an answer, resolved"
        )
        self.takeovers = meter.create_counter("duress.takeovers", "{worker}", "Dead workers taken over from")
        self.recovery = meter.create_histogram(
            "duress.recovery.duration", "s", "From the claim after a takeover to the first new checkpoint"
        )


def _below(parent: SpanContext) -> "context.Context":
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), context.Context())


def _in(begun: _Open) -> "context.Context":
    return trace.set_span_in_context(begun.span, context.Context())
