"""Faults of the network between one worker and the server. They hold for all its connections, also after a restart."""

import asyncio

from duress.faults.injectors.injection import Injection
from duress.faults.plan import CutCommit, DropConnection, LoseNotify, Partition, RefuseConnections, SlowLink
from duress.scenarios.sim.faults.scene import LOOK_AGAIN, SIGNAL, Scene
from duress.scenarios.sim.faults.watch import TrafficWatch
from duress.simulator import Network


async def drop(scene: Scene, injection: Injection, fault: DropConnection) -> None:
    """A worker that has none now, or only such as it does not yet know to be lost, is waited for."""
    name, network = scene.name(injection), scene.run.network
    watch = TrafficWatch(scene.run, name)
    begun = injection.asked = scene.clock()
    await asyncio.sleep(SIGNAL)
    network.drop(name, fault.how)
    while (lost := watch.lost()) is None:
        if not scene.patient(injection, begun):
            injection.missed(f"worker {injection.worker} has no connection")
            return
        await asyncio.sleep(LOOK_AGAIN)
        injection.asked = scene.clock()
        network.drop(name, fault.how)
    injection.took_effect(scene.sighting(lost))
    injection.healed = scene.clock()  # it may connect again


async def refuse(scene: Scene, injection: Injection, fault: RefuseConnections) -> None:
    if (found := await _aim(scene, injection)) is None:
        return
    name, network, watch = found
    network.refuse(name)
    network.drop(name)
    if await scene.seen(injection, watch.refused):
        await injection.hold(fault.duration)
    network.refuse(name, on=False)
    scene.healed(injection, "connections are accepted again")


async def partition(scene: Scene, injection: Injection, fault: Partition) -> None:
    if (found := await _aim(scene, injection)) is None:
        return
    name, network, watch = found
    network.partition(name, fault.direction)
    if await scene.seen(injection, watch.withheld):
        await injection.hold(fault.duration)
    if fault.heals == "dead":
        network.drop(name)
    network.heal(name)
    scene.healed(injection, "everything arrives again" + ("" if fault.heals == "alive" else ", on new connections"))


async def slow(scene: Scene, injection: Injection, fault: SlowLink) -> None:
    if (found := await _aim(scene, injection)) is None:
        return
    name, network, watch = found
    low, high = network.settings.latency
    network.slow(name, (low + fault.latency, high + fault.latency + fault.jitter), bandwidth=fault.bandwidth)
    if await scene.seen(injection, watch.late):
        await injection.hold(fault.duration)
    network.quicken(name)
    scene.healed(injection, "its link is as fast as before")


async def cut_commit(scene: Scene, injection: Injection, fault: CutCommit) -> None:
    """Strikes the next COMMIT: of a worker that is held at the point before it, that one."""
    name, network = scene.name(injection), scene.run.network
    watch = TrafficWatch(scene.run, name)
    injection.asked = scene.clock()
    cut = network.cut_commit(name, fault.at)
    if await scene.seen(injection, lambda: watch.cut(fault.at) if cut.left <= 0 else None):
        injection.healed = scene.clock()
    else:
        network.spare(name, cut)


async def lose_notify(scene: Scene, injection: Injection, fault: LoseNotify) -> None:
    if (found := await _aim(scene, injection)) is None:
        return
    name, network, watch = found
    network.deafen(name)
    if await scene.seen(injection, watch.deaf):
        await injection.hold(fault.duration)
    network.deafen(name, on=False)
    scene.healed(injection, "notifications arrive again")


async def _aim(scene: Scene, injection: Injection) -> tuple[str, Network, TrafficWatch] | None:
    """The worker's name, its network, and a watch on what happens to its connections from now on, once it is there; None (and
    the injection missed) if it does not come in time.
    """
    if await scene.victim(injection) is None:
        return None
    name = scene.name(injection)
    watch = TrafficWatch(scene.run, name)
    injection.asked = scene.clock()
    return name, scene.run.network, watch
