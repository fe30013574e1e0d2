"""Faults of the workers' processes."""

import asyncio

from duress.faults.injectors.injection import Injection
from duress.faults.plan import KillWorker, PauseWorker, StopWorker
from duress.scenarios.sim.crew import Worker
from duress.scenarios.sim.faults.scene import SIGNAL, Scene


async def kill(scene: Scene, injection: Injection, fault: KillWorker) -> None:
    victim = await scene.victim(injection)
    if victim is None:
        return
    injection.asked = scene.clock()
    await asyncio.sleep(SIGNAL)
    incarnation = victim.process.incarnation
    victim.process.kill()
    end = await victim.process.ended()
    injection.took_effect(scene.sighting(f"{victim.process.name}, incarnation {incarnation}, was {end.how}"))
    await _come_back(scene, injection, victim, incarnation, fault.restart_after)


async def pause(scene: Scene, injection: Injection, fault: PauseWorker) -> None:
    victim = await scene.victim(injection)
    if victim is None:
        return
    injection.asked = scene.clock()
    victim.hold("fault")
    if not victim.process.paused:
        raise RuntimeError(f"{victim.process} was told to stand still and does not")
    injection.took_effect(scene.sighting(f"{victim.process.name} stands still"))
    incarnation = victim.process.incarnation
    await injection.hold(fault.duration)
    if victim.process.incarnation == incarnation:
        victim.let_go("fault")
    injection.was_healed(scene.sighting("it goes on" if victim.process.alive else "it has ended"))


async def stop(scene: Scene, injection: Injection, fault: StopWorker) -> None:
    victim = await scene.victim(injection)
    if victim is None:
        return
    injection.asked = scene.clock()
    incarnation = victim.process.incarnation
    victim.process.stop()
    injection.release()
    end = await victim.process.ended()
    injection.took_effect(scene.sighting(f"{victim.process.name}, incarnation {incarnation}, {end.how}"))
    await _come_back(scene, injection, victim, incarnation, fault.restart_after)


async def _come_back(scene: Scene, injection: Injection, victim: Worker, incarnation: int, after: float | None) -> None:
    """Start the worker again, unless another injection that ended the same process already has."""
    if after is None:
        return
    await injection.hold(after)
    if victim.process.incarnation == incarnation:
        await scene.crew.respawn(victim.number)
    injection.was_healed(scene.sighting(f"incarnation {victim.process.incarnation} runs in its place"))
