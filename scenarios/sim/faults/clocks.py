"""Faults of a worker's clock. The database's clock decides everything, so it must change nothing that matters.

That clock may jump too, which lets leases end sooner or later than anybody thought.
"""

from duress.faults.injectors.injection import Injection
from duress.faults.plan import ClockJump, ClockSkew
from duress.scenarios.sim.crew import Worker
from duress.scenarios.sim.faults.scene import Scene


async def skew(scene: Scene, injection: Injection, fault: ClockSkew) -> None:
    victim = await scene.victim(injection)
    if victim is None:
        return
    injection.asked = scene.clock()
    victim.process.clock_jump(fault.seconds)
    victim.process.set_drift(fault.drift)
    if await scene.seen(injection, lambda: wrong(scene, victim)):
        await injection.hold(fault.duration)
    victim.process.set_drift(0.0)
    victim.process.clock_jump(-_ahead(scene, victim))
    if wrong(scene, victim) is None:
        scene.healed(injection, "it is right again")


async def jump(scene: Scene, injection: Injection, fault: ClockJump) -> None:
    """For good."""
    if fault.of == "server":
        injection.asked = scene.clock()
        scene.run.server.clock_jump(fault.seconds)
        scene.clock_jumps.append((injection.asked, fault.seconds))
        await scene.seen(injection, lambda: server_wrong(scene))
        return
    victim = await scene.victim(injection)
    if victim is None:
        return
    injection.asked = scene.clock()
    victim.process.clock_jump(fault.seconds)
    await scene.seen(injection, lambda: wrong(scene, victim))


def wrong(scene: Scene, worker: Worker) -> str | None:
    """How wrong a worker's clock is beside the server's, if it is."""
    ahead = _ahead(scene, worker)
    return f"the clock of {worker.process.name} is {ahead:+g} s off PostgreSQL's" if ahead else None


def server_wrong(scene: Scene) -> str | None:
    """How wrong the clock is that PostgreSQL shows, if it is."""
    ahead = round((scene.run.server.clock_us - scene.run.loop.clock.unix_us) / 1e6, 5)
    return f"PostgreSQL's clock is {ahead:+g} s off" if ahead else None


def _ahead(scene: Scene, worker: Worker) -> float:
    """Seconds; the server's clock shows whole microseconds."""
    clock = scene.run.loop.clock
    return round(worker.process.clock.wall(clock.now) / 1e9 - clock.unix_us / 1e6, 5)
