"""Faults of containers, by the daemon's own verbs; confirmed by what it says when it is asked, and by PostgreSQL's log."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from docker.errors import APIError, NotFound

from duress.faults.injectors.backends import BackendFaults
from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.real import RealInjector
from duress.faults.injectors.server import back
from duress.faults.injectors.sessions import Sessions
from duress.faults.observe import LogWatch, Observer, Sighting
from duress.faults.plan import (
    AtPoint,
    CrashBackend,
    Event,
    KillPostmaster,
    KillWorker,
    Partition,
    PausePostgres,
    PauseWorker,
    Plan,
    RestartPostgres,
    StopWorker,
    TerminateBackend,
    kind,
)
from duress.faults.worlds import refuse
from duress.scenarios.docker.births import Contained
from duress.scenarios.docker.daemon import Daemon
from duress.scenarios.docker.server import ContainedServer

POLL = 0.01  # seconds


class Workers(Protocol):
    """The workers of a run."""

    def contained(self, worker: int) -> tuple[Contained, int | None] | None:
        """The worker's container and incarnation; None while it has none."""
        ...

    async def respawn(self, worker: int) -> None:
        """Start the worker again whose container has ended."""
        ...


class DockerInjector(RealInjector):
    """Injects faults into the containers of one run."""

    def __init__(self, daemon: Daemon, network: str, server: ContainedServer, workers: Workers, dsn: str) -> None:
        super().__init__(Sessions(dsn))
        self._daemon = daemon
        self._network = network
        self._server = server
        self._workers = workers
        self._patience = Patience()
        self._observer = Observer(clock=time.monotonic, dsn=dsn, log=lambda: server.log_path)
        self._outage = asyncio.Lock()
        self._backends = BackendFaults(
            self._observer,
            self._sessions,
            self._patience,
            incarnation=self._incarnation,
            kill=self._kill_backend,
            outage=self._outage,
        )
        self._respawning: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def inject(self, event: Event, worker: int) -> Injection:
        """As the injector of the procs world."""
        refuse(Plan(events=(event,)), "docker")
        return await self._begin(event, worker)

    def _life(self, injection: Injection) -> Coroutine[None, None, None]:
        match injection.event.fault:
            case KillWorker() as fault:
                return self._end(injection, "SIGKILL", fault.restart_after)
            case StopWorker() as fault:
                return self._end(injection, "SIGTERM", fault.restart_after)
            case PauseWorker() as fault:
                return self._pause_worker(injection, fault)
            case Partition() as fault:
                return self._partition(injection, fault)
            case TerminateBackend() as fault:
                return self._backends.terminate(injection, fault)
            case CrashBackend() as fault:
                return self._backends.crash(injection, fault)
            case PausePostgres() as fault:
                return self._pause_server(injection, fault)
            case RestartPostgres() as fault:
                return self._restart(injection, fault.mode, fault.down)
            case KillPostmaster():
                return self._restart(injection, "kill", 0.0)
            case fault:
                raise AssertionError(f"{kind(fault)} was let through, and nobody here does it")

    # Workers

    async def _end(self, injection: Injection, signal: str, restart_after: float | None) -> None:
        """Kill, or stop: then the worker at its point has to go on before it can end."""
        victim = await self._victim(injection)
        if victim is None or not await self._do(injection, victim, partial(victim.container.kill, signal)):
            return
        graceful = signal == "SIGTERM"
        if graceful:
            injection.release()
        patience = self._patience.drain if graceful else self._patience.effect
        sighting = await self._seen(victim.container, _exited, patience)
        if sighting is None:
            injection.missed(f"container {victim.container.name} had not ended {patience:g} s after {signal}")
            return
        injection.took_effect(sighting)
        if restart_after is None:
            return
        await injection.hold(restart_after)
        async with self._respawning[injection.worker]:
            now = self._workers.contained(injection.worker)
            if now is None or now[0] is victim:
                await self._workers.respawn(injection.worker)
        now = self._workers.contained(injection.worker)
        name = now[0].container.name if now else "another container"
        injection.was_healed(Sighting(self._observer.clock(), f"{name} runs in its place"))

    async def _pause_worker(self, injection: Injection, fault: PauseWorker) -> None:
        victim = await self._victim(injection)
        if victim is not None:
            await self._pause(injection, victim.container, fault.duration)

    async def _pause(self, injection: Injection, container: Any, duration: float) -> bool:
        """Freeze it for a while. What we do not live to undo goes with the container, by its label."""
        if not await self._do(injection, None, container.pause):
            return False
        try:
            sighting = await self._seen(container, _paused, self._patience.effect)
            if sighting is not None:
                injection.took_effect(sighting)
                await injection.hold(duration)
        finally:
            with contextlib.suppress(APIError, NotFound):  # it was killed meanwhile
                await self._daemon.ask(container.unpause)
        if sighting is None:
            injection.missed(f"container {container.name} was not paused {self._patience.effect:g} s after it was told")
            return False
        healed = await self._seen(container, lambda state: _running(state) or _exited(state), self._patience.effect)
        if healed is None:
            raise RuntimeError(f"container {container.name} is still paused")
        injection.was_healed(healed)
        return True

    async def _partition(self, injection: Injection, fault: Partition) -> None:
        """Take the worker's container off the network; it comes back with the address that it had."""
        victim = await self._victim(injection)
        if victim is None:
            return
        container = victim.container
        before = (await self._daemon.inspect(container.id))["NetworkSettings"]["Networks"][self._network]
        network = await self._daemon.ask(self._daemon.client.networks.get, self._network)
        if not await self._do(injection, None, partial(network.disconnect, container)):
            return
        try:
            sighting = await self._seen(container, self._off, self._patience.effect)
            if sighting is not None:
                injection.took_effect(sighting)
                await injection.hold(fault.duration)
                if fault.heals == "dead":
                    await self._end_sessions(injection.worker)
        finally:
            with contextlib.suppress(NotFound):  # it was removed meanwhile
                await self._daemon.ask(network.connect, container, ipv4_address=before["IPAddress"])
        if sighting is None:
            injection.missed(f"container {container.name} was still on the network")
            return
        healed = await self._seen(container, lambda said: self._on(said) or _exited(said), self._patience.effect)
        if healed is None:
            raise RuntimeError(f"container {container.name} did not come back to the network")
        injection.was_healed(healed)

    async def _end_sessions(self, worker: int) -> None:
        """End the server's side of all connections of a worker, which cannot make others now."""
        found = self._workers.contained(worker)
        while found is not None and found[1] is not None and await self._sessions.terminate(found[1]) is not None:
            pass

    def _off(self, said: dict[str, Any]) -> str | None:
        return (
            None if self._network in said["NetworkSettings"]["Networks"] else f"{said['Name'][1:]} is off the network"
        )

    def _on(self, said: dict[str, Any]) -> str | None:
        return f"{said['Name'][1:]} is on it again" if self._network in said["NetworkSettings"]["Networks"] else None

    # The server

    def _incarnation(self, worker: int) -> int | None:
        found = self._workers.contained(worker)
        return None if found is None else found[1]

    async def _kill_backend(self, pid: int) -> bool:
        """SIGKILL within the server's container; the numbers are those of its own processes."""
        command = ["sh", "-c", f"kill -9 {pid}"]
        try:
            done = await self._daemon.ask(partial(self._server.container.exec_run, command, user="root"))
        except (APIError, NotFound):  # the container has just ended
            return False
        return bool(done.exit_code == 0)

    async def _pause_server(self, injection: Injection, fault: PausePostgres) -> None:
        async with self._outage:
            await self._pause(injection, self._server.container, fault.duration)

    async def _restart(self, injection: Injection, mode: str, down: float) -> None:
        """Stop its container (or kill it), leave it away for a while, start it again."""
        async with self._outage:
            log = LogWatch(self._server.log_path)
            container = self._server.container
            end: Callable[[], Any] = container.kill
            stop: Awaitable[Any] = self._daemon.ask(end) if mode == "kill" else self._server.stop(mode)
            injection.asked = self._observer.clock()
            await asyncio.shield(asyncio.ensure_future(stop))
            try:
                sighting = await self._seen(container, _exited, self._patience.effect)
                if sighting is not None:
                    injection.took_effect(sighting)
                await asyncio.sleep(down)
            finally:
                await asyncio.shield(asyncio.ensure_future(self._server.start()))
            if sighting is None:
                injection.missed("the server's container was not seen to end")
                return
            injection.was_healed(await back(self._observer, self._patience, log))

    # What they share

    async def _victim(self, injection: Injection) -> Contained | None:
        """The worker's container, once it runs; None (and the injection missed) if it does not in time."""
        held = isinstance(injection.event.trigger, AtPoint)
        deadline = self._observer.clock() + (0.0 if held else self._patience.victim)
        while True:
            found = self._workers.contained(injection.worker)
            if found is not None:
                said = await self._daemon.inspect(found[0].container.id)
                if _running(said):
                    return found[0]
            if self._observer.clock() >= deadline or injection.healing.is_set():
                injection.missed(f"worker {injection.worker} has no container that runs")
                return None
            await asyncio.sleep(POLL)

    async def _do(self, injection: Injection, victim: Contained | None, verb: Callable[[], Any]) -> bool:
        """Have the daemon do it; False (and the injection missed) if the container has just ended."""
        injection.asked = self._observer.clock()
        try:
            await self._daemon.ask(verb)
        except (APIError, NotFound) as error:
            injection.missed(f"the container was not there any more, or not running: {error.explanation}")
            return False
        return True

    async def _seen(
        self, container: Any, look: Callable[[dict[str, Any]], str | None], within: float
    ) -> Sighting | None:
        """What the daemon says of it when it is asked, as soon as that is what is looked for."""

        async def ask() -> str | None:
            return look(await self._daemon.inspect(container.id))

        return await self._observer.see(ask, within)


def _exited(said: dict[str, Any]) -> str | None:
    state = said["State"]
    return f"{said['Name'][1:]} has exited ({state['ExitCode']})" if state["Status"] in ("exited", "dead") else None


def _paused(said: dict[str, Any]) -> str | None:
    return f"{said['Name'][1:]} is paused" if said["State"]["Status"] == "paused" else None


def _running(said: dict[str, Any]) -> str | None:
    return f"{said['Name'][1:]} runs" if said["State"]["Status"] == "running" else None
