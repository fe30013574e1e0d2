"""What OpenTelemetry is told, with worker and epoch as attributes; and logs that say which workflow they are about."""

import asyncio
import functools
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from engine_room import Watch, opened, running, session, until, working
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from duress.engine import Retry, current, sleep, step, transaction, workflow
from duress.engine.logs import structured
from duress.engine.telemetry import Telemetry


class Collected:
    """Everything that is told, kept in memory."""

    def __init__(self, **options: Any) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        meters = MeterProvider([self.reader])
        self.telemetry = Telemetry(tracer_provider=self.tracers, meter_provider=meters, **options)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        [span] = self.spans(name)
        return span

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes and data of the points of a metric."""
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [
            one for resource in data.resource_metrics for scope in resource.scope_metrics for one in scope.metrics
        ]
        return [
            (dict(point.attributes or {}), point)
            for one in metrics
            if one.name == name
            for point in one.data.data_points
        ]


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        asyncio.run(test(*arguments, **fixtures))

    return run


log = logging.getLogger("shop")


@step(retry=Retry(attempts=3, initial=0.001))
async def flaky() -> str:
    with trace.get_tracer("user").start_as_current_span("the body's own"):
        log.warning("trying")
    if current().attempt < 2:
        raise OSError("not yet")
    return "SECRET"


@step
def plain(value: str) -> None:
    log.warning("in a thread")


@transaction
async def write(tx: Any) -> int:
    await tx.execute("select 1")
    return 1


@workflow(name="telemetry: shop")
async def shop(value: str) -> str:
    log.warning("between steps")
    await flaky()
    await write()
    await sleep(0.01)
    await plain("x")
    return "SECRET"


@workflow(name="telemetry: broken")
async def broken() -> None:
    raise LookupError("no such thing")


@workflow(name="telemetry: long sleep")
async def long_sleep() -> None:
    await sleep(0.05)


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def named(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


@on_a_loop
async def test_spans_nest_and_name_worker_and_epoch(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Collected()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", told.tracers)  # the body's own tracer is the global one
    async with running(database, observer=told.telemetry, work={"name": "w1"}) as engine:
        await (await engine.start("shop-1", shop, "SECRET")).result()
    run = told.span("workflow telemetry: shop")
    assert run.attributes is not None
    about = {
        "duress.worker": "w1",
        "duress.incarnation": run.attributes["duress.incarnation"],
        "duress.workflow.id": "shop-1",
        "duress.workflow.name": "telemetry: shop",
        "duress.epoch": 1,
    }
    assert dict(run.attributes) == {**about, "duress.outcome": "succeeded"}
    assert [event.name for event in run.events][:1] == ["claimed"]
    one, two = told.spans("attempt flaky")
    steps = {name: told.span(f"step {name}") for name in ("flaky", "write", "sleep", "plain")}
    assert all(parent(span) == named(run) for span in steps.values())
    assert all(parent(span) == named(steps["flaky"]) for span in (one, two))
    assert [dict(span.attributes or {}) for span in (one, two)] == [
        {
            **about,
            "duress.step.id": "1",
            "duress.step.name": "flaky",
            "duress.attempt": attempt,
            "duress.idempotency_key": "shop-1:1",
            "duress.outcome": outcome,
        }
        for attempt, outcome in ((1, "error"), (2, "ok"))
    ]
    assert (one.status.status_code, two.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert [parent(span) for span in told.spans("the body's own")] == [named(one), named(two)]
    every = told.exporter.get_finished_spans()
    ids = {span.context.trace_id for span in every if span.context}
    assert len(ids) == 1, "one trace for the workflow, its start by the client included"
    assert told.span("start telemetry: shop").kind is trace.SpanKind.PRODUCER
    assert "SECRET" not in "".join(span.to_json() for span in every)
    for span in every:
        assert span.start_time is not None and span.end_time is not None and span.start_time <= span.end_time


@on_a_loop
async def test_metrics_count_attempts_and_time_steps(database: str) -> None:
    told = Collected()
    async with running(database, observer=told.telemetry, work={"name": "w1"}) as engine:
        await (await engine.start("shop-2", shop, "x")).result()
        failing = await engine.start("broken-1", broken)
        with pytest.raises(Exception, match="no such thing"):
            await failing.result()
    attempts = {
        (about["duress.step.name"], about["duress.outcome"]): point.value
        for about, point in told.points("duress.step.attempts")
    }
    assert attempts[("flaky", "error")] == attempts[("flaky", "ok")] == attempts[("write", "ok")] == 1
    durations = {about["duress.step.name"]: point for about, point in told.points("duress.step.duration")}
    assert durations["flaky"].count == 1 and 0 < durations["flaky"].sum < 10
    runs = {about["duress.outcome"]: point.count for about, point in told.points("duress.workflow.run.duration")}
    assert runs == {"succeeded": 1, "failed": 1}
    assert [point.value for _, point in told.points("duress.workflow.running")] == [0]
    claims = told.points("duress.workflow.claims")
    assert sum(point.value for _, point in claims) == 2
    assert all(set(about) == {"duress.worker", "duress.workflow.name"} for about, _ in claims), (
        "no id, no epoch: a series each"
    )
    assert told.span("workflow telemetry: broken").status.status_code is StatusCode.ERROR


@on_a_loop
async def test_claims_of_one_workflow_share_a_trace_and_none_is_left_open(database: str) -> None:
    told = Collected()
    work = {"suspend_after": 0.01, "poll": 0.02}
    async with running(database, observer=told.telemetry, work=work) as engine:
        await (await engine.start("sleeper", long_sleep)).result()
    first, second = told.spans("workflow telemetry: long sleep")
    assert [(span.attributes or {})["duress.outcome"] for span in (first, second)] == ["suspended", "succeeded"]
    assert [(span.attributes or {})["duress.epoch"] for span in (first, second)] == [1, 2]
    assert first.context and second.context and first.context.trace_id == second.context.trace_id
    assert "replayed" in [event.name for event in second.events]
    assert not told.telemetry._claims


@on_a_loop
async def test_a_cancelled_workflow_ends_its_spans_too(database: str) -> None:
    told, watch = Collected(), Watch()

    class Both:
        def point(self, name: str, facts: Any) -> Any:
            told.telemetry.point(name, facts)
            return watch.point(name, facts)

    started = asyncio.Event()

    @workflow(name="telemetry: for ever")
    async def for_ever() -> None:
        await plain("x")
        started.set()
        await asyncio.Event().wait()

    async with running(database, observer=Both()) as engine:
        await engine.start("stuck", for_ever)
        await started.wait()
        await engine.cancel("stuck")
        await watch.seen("workflow.unwound", why="fenced")
    run = told.span("workflow telemetry: for ever")
    assert (run.attributes or {})["duress.outcome"] == "fenced"


@on_a_loop
async def test_the_callers_trace_leads_to_the_workflows(database: str) -> None:
    told = Collected()
    async with running(database, observer=told.telemetry) as engine:
        with told.tracers.get_tracer("web").start_as_current_span("request") as request:
            handle = await engine.start("linked", long_sleep)
        await handle.result()
    start, run = told.span("start telemetry: long sleep"), told.spans("workflow telemetry: long sleep")[0]
    assert parent(start) == request.get_span_context().span_id
    assert run.context and [link.context.trace_id for link in start.links] == [run.context.trace_id]


@on_a_loop
async def test_a_ratio_leaves_out_the_same_workflows_everywhere(database: str) -> None:
    one, two = Collected(ratio=0.5), Collected(ratio=0.5)
    ids = [f"w-{number}" for number in range(40)]
    sampled = [{id_ for id_ in ids if told.telemetry._trunk(id_).trace_flags.sampled} for told in (one, two)]
    assert sampled[0] == sampled[1] and 5 < len(sampled[0]) < 35
    async with running(database, observer=one.telemetry) as engine:
        for id_ in ids[:6]:
            await (await engine.start(id_, long_sleep)).result()
    seen = {str((span.attributes or {})["duress.workflow.id"]) for span in one.spans("workflow telemetry: long sleep")}
    assert seen == sampled[0] & set(ids[:6])


@on_a_loop
async def test_log_lines_say_which_workflow_epoch_and_step_they_are_about(database: str) -> None:
    lines = io.StringIO()
    handler = structured(lines)
    logging.getLogger().addHandler(handler)
    try:
        async with opened(database) as engine, session(database) as sql, working(engine, name="w1"):
            await (await engine.start("shop-3", shop, "x")).result()
            with pytest.raises(Exception, match="no such thing"):
                await (await engine.start("broken-2", broken)).result()
            log.warning("outside")
            await until(lambda: "outside" in lines.getvalue())
            assert await sql.one("select 1") == 1
    finally:
        logging.getLogger().removeHandler(handler)
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    about = {"worker": "w1", "workflow": "shop-3", "epoch": 1}
    fields = ("worker", "workflow", "epoch", "step", "name_of_step", "attempt")
    found = {
        line["message"]: {field: line[field] for field in fields if field in line}
        for line in told
        if line["logger"] == "shop"
    }
    assert found["between steps"] == about
    assert found["trying"] == {**about, "step": "1", "name_of_step": "flaky", "attempt": 2}
    assert found["in a thread"] == {**about, "step": "4", "name_of_step": "plain", "attempt": 1}
    assert found["outside"] == {}
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in told)


def test_nobody_pays_who_does_not_use_it() -> None:
    program = "import sys, duress.engine; print([name for name in sys.modules if 'opentelemetry' in name])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import duress.engine.telemetry\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("ConfigurationError") and "pip install 'duress[otel]'" in said.stdout
