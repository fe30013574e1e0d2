"""Faults of the server, for everybody; and the end of one session."""

import asyncio
from typing import Final

from duress.faults.injectors.injection import Injection
from duress.faults.plan import AtPoint, CrashBackend, RestartPostgres, TerminateBackend
from duress.scenarios.sim.faults.scene import LOOK_AGAIN, Scene

TRANSACTION_BOUND: Final = 0.5  # virtual seconds that one waits for a session inside a transaction


async def terminate(scene: Scene, injection: Injection, fault: TerminateBackend) -> None:
    """pg_terminate_backend; nothing to undo, the worker has to open another session."""
    held = isinstance(injection.event.trigger, AtPoint)
    begun = scene.clock()
    until = begun + (0.0 if held else TRANSACTION_BOUND)
    name = scene.name(injection)
    while True:
        asked = scene.clock()
        session = scene.run.server.terminate(name, in_transaction=asked < until)
        if session is not None:
            break
        if not scene.patient(injection, begun):
            injection.missed(f"worker {injection.worker} has no session that could be terminated")
            return
        await asyncio.sleep(LOOK_AGAIN)
    injection.asked = asked
    await scene.run.server.gone(session)
    injection.took_effect(scene.sighting(f"session {session.number} of {name} is gone"))
    injection.healed = scene.clock()


async def crash(scene: Scene, injection: Injection, fault: CrashBackend) -> None:
    async with scene.outage:
        injection.asked = scene.clock()
        session = scene.run.server.crash(scene.name(injection))
        if session is None:
            injection.missed("no worker has a session")
            return
        injection.took_effect(scene.sighting(f"the backend of session {session.number} was killed: all are gone"))
        await _recovered(scene, injection)


async def restart(scene: Scene, injection: Injection, fault: RestartPostgres) -> None:
    async with scene.outage:
        injection.asked = scene.clock()
        scene.run.server.stop(fault.mode)
        injection.took_effect(scene.sighting(f"PostgreSQL has stopped ({fault.mode})"))
        await injection.hold(fault.down)
        scene.run.server.start()
        await scene.run.server.ready()
        injection.was_healed(scene.sighting("PostgreSQL answers again"))


async def _recovered(scene: Scene, injection: Injection) -> None:
    await scene.run.server.ready()
    injection.was_healed(scene.sighting("PostgreSQL has recovered"))
