"""Faults of the server, for everybody; and the end of one session."""

import asyncio
from errno import EIO, ENOSPC
from typing import Final

from duress.faults.injectors.injection import Injection
from duress.faults.plan import (
    AtPoint,
    CrashAtCommit,
    CrashBackend,
    DiskFull,
    FsyncFails,
    PausePostgres,
    RestartPostgres,
    TerminateBackend,
    TooManyConnections,
)
from duress.scenarios.sim.faults.scene import LOOK_AGAIN, Scene
from duress.scenarios.sim.faults.watch import TrafficWatch
from duress.simulator import Io, Point

GROWTH_BOUND: Final = 0.3  # virtual seconds that one waits for a table to grow
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


async def crash_at_commit(scene: Scene, injection: Injection, fault: CrashAtCommit) -> None:
    """Strikes the backend that runs the worker's next COMMIT: of one that is held at the point before it, that one."""
    async with scene.outage:
        name, server = scene.name(injection), scene.run.server
        injection.asked = scene.clock()
        at = Point.BEFORE_COMMIT if fault.at == "before-record" else Point.COMMITTED
        catch = scene.run.sessions.catch(name, at, lambda session: session.commits)

        def crashed() -> str | None:
            if (session := catch.caught) is None:
                return None
            server.kill(session)
            return f"the backend of session {session.number} was killed in {session.asked.split()[0]}, {fault.at}"

        if await scene.seen(injection, crashed):
            await _recovered(scene, injection)
        else:
            catch.give_up()


async def pause(scene: Scene, injection: Injection, fault: PausePostgres) -> None:
    async with scene.outage:
        server = scene.run.server
        injection.asked = scene.clock()
        server.pause()

        def waiting() -> str | None:
            return "PostgreSQL does not take what has arrived" if server.kept_waiting else None

        if await scene.seen(injection, waiting):
            await injection.hold(fault.duration)
        server.resume()
        scene.healed(injection, "PostgreSQL goes on")


async def too_many_connections(scene: Scene, injection: Injection, fault: TooManyConnections) -> None:
    """Whatever connection becomes free meanwhile, a stranger takes it."""
    if await scene.victim(injection) is None:
        return
    async with scene.outage:
        name, server = scene.name(injection), scene.run.server
        watch = TrafficWatch(scene.run, name)
        injection.asked = scene.clock()
        scene.run.network.drop(name)

        def refused() -> str | None:
            server.take_connections()
            return watch.error("53300")

        if await scene.seen(injection, refused):
            until = scene.clock() + fault.duration
            while scene.clock() < until and not injection.healing.is_set():
                server.take_connections()
                await asyncio.sleep(LOOK_AGAIN)
        server.give_back()
        scene.healed(injection, "connections are free again")


async def disk_full(scene: Scene, injection: Injection, fault: DiskFull) -> None:
    """Where tables and indexes grow; and if none does for a while, once where the log is written, which is a PANIC."""
    async with scene.outage:
        server = scene.run.server
        before = server.io_failures
        begun = injection.asked = scene.clock()
        server.fail_io(ENOSPC, Io.DATA_WRITE)
        what = "a write of PostgreSQL"

        def failed() -> str | None:
            nonlocal what
            if server.io_failures > before:
                return f"{what} failed with ENOSPC"
            if scene.clock() > begun + GROWTH_BOUND and "log" not in what:
                what = "a write of PostgreSQL's log"
                server.fail_io(ENOSPC, Io.WAL_WRITE, times=1)
            return None

        if await scene.seen(injection, failed):
            await injection.hold(fault.duration)
        server.mend()
        await server.ready()
        scene.healed(injection, "there is room again")


async def fsync_fails(scene: Scene, injection: Injection, fault: FsyncFails) -> None:
    async with scene.outage:
        server = scene.run.server
        before = server.io_failures
        injection.asked = scene.clock()
        server.fail_io(EIO, Io.WAL_SYNC, process=scene.name(injection), times=1)

        def failed() -> str | None:
            return "an fsync of PostgreSQL failed with EIO, and it went down" if server.io_failures > before else None

        seen = await scene.seen(injection, failed)
        server.mend()
        if seen:
            await _recovered(scene, injection)


async def _recovered(scene: Scene, injection: Injection) -> None:
    await scene.run.server.ready()
    injection.was_healed(scene.sighting("PostgreSQL has recovered"))
