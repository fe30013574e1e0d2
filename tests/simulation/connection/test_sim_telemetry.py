"""The engine's spans in a simulated run: virtual time, the same for the same seed, and a recovery where a worker was killed."""

import asyncio
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from psycopg import Connection

from duress.engine import Engine, Registry, current, sleep, step
from duress.engine.definitions import WorkflowDefinition
from duress.engine.telemetry import Telemetry
from duress.simulator import Cell, Run, Simulation

BEGIN = 1_900_000_000 * 10**9  # where virtual time begins
MINUTE = 60 * 10**9


@step
async def slow() -> int:
    await asyncio.sleep(0.5)
    return current().epoch


async def both_sides() -> int:
    epoch = await slow()
    await sleep(60)
    await slow()
    return epoch


REGISTRY, FLOW = Registry(), WorkflowDefinition(both_sides, "telemetry: simulated")
REGISTRY.add(FLOW)


def set_up(connection: Connection[Any]) -> None:
    async def migrate() -> None:
        async with Engine(connection.info.dsn, registry=REGISTRY) as engine:
            await engine.migrate()

    asyncio.run(migrate())


def spans_of(simulation: Simulation, seed: int) -> list[ReadableSpan]:
    """What two workers tell, the first of which is killed at its first step."""
    exporter, meters = InMemorySpanExporter(), MeterProvider(shutdown_on_exit=False)
    tracers = TracerProvider(shutdown_on_exit=False)  # made before the run: it asks threads who it is
    tracers.add_span_processor(SimpleSpanProcessor(exporter))

    async def work(run: Run, name: str) -> None:
        telemetry = Telemetry(tracer_provider=tracers, meter_provider=meters)
        async with Engine(run.dsn, observer=telemetry, registry=REGISTRY) as engine:
            await engine.work(name=name, suspend_after=1.0)

    async def main(run: Run) -> None:
        victim = run.process("victim", work, run, "victim")
        await asyncio.sleep(1.0)
        async with Engine(run.dsn, registry=REGISTRY) as engine:
            handle = await engine.start("flow", FLOW)
            await asyncio.sleep(0.3)
            run.process("heir", work, run, "heir")
            victim.kill()
            assert await handle.result() == 2

    simulation.run(main, seed=seed)
    return list(exporter.get_finished_spans())


def test_spans_carry_virtual_time_and_show_the_recovery(cell: Cell) -> None:
    with Simulation(set_up, cell=cell) as simulation:
        spans, again = spans_of(simulation, 5), spans_of(simulation, 5)
    assert [(span.name, span.start_time, span.end_time) for span in spans] == [
        (span.name, span.start_time, span.end_time) for span in again
    ]
    assert all(BEGIN <= span.start_time <= span.end_time <= BEGIN + 2 * MINUTE for span in spans)  # type: ignore[operator]
    takeover = next(span for span in spans if span.name == "takeover")
    assert (takeover.attributes or {})["duress.worker"] == "heir"
    [recovery] = [span for span in spans if span.name == "recovery telemetry: simulated"]
    about = recovery.attributes or {}
    assert (about["duress.worker"], about["duress.epoch"], about["duress.outcome"]) == ("heir", 2, "ok")
    first, second = [span for span in spans if span.name == "workflow telemetry: simulated"]
    assert first.start_time and second.end_time and first.context and recovery.parent
    assert recovery.parent.span_id == first.context.span_id
    assert (first.attributes or {})["duress.outcome"] == "suspended"
    assert MINUTE < second.end_time - first.start_time < MINUTE + 10 * 10**9, "the minute that was slept"
    attempts = [span for span in spans if span.name == "attempt slow"]
    assert [span.end_time - span.start_time for span in attempts] == [500_000_000] * 2  # type: ignore[operator]
