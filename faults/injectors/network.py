"""Faults of the network between one worker and the server. Confirmed by the kernel's tables and by probes on the same way."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import partial
from typing import cast

import psycopg

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.target import Target
from duress.faults.journal import Journal
from duress.faults.kernel import Drop
from duress.faults.needs import no_dropping
from duress.faults.network import Network, Reading
from duress.faults.observe import Look, Observer, Sighting
from duress.faults.observe_links import Probe, SocketWatch, ports_of
from duress.faults.plan import (
    AtPoint,
    CutCommit,
    DropConnection,
    LoseNotify,
    Partition,
    RefuseConnections,
    SlowLink,
    describe,
)
from duress.faults.proxy import orders

POLL = 0.02  # seconds between two looks for a connection of the worker


class NetworkFaults:
    """The lives of injections that strike a worker's way to the server. `clock` is the observer's."""

    def __init__(self, target: Target, observer: Observer, journal: Journal, patience: Patience) -> None:
        self._target = target
        self._observer = observer
        self._journal = journal
        self._patience = patience
        # One at a time on a worker's way: the end of one would end another.
        self._ways: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def drop(self, injection: Injection, fault: DropConnection) -> None:
        """Nothing to undo: the worker has to connect again."""
        watch = await self._connected(injection)
        if watch is None:
            return
        injection.asked = self._observer.clock()
        await self._network.drop(injection.worker, fault.how)
        sighting = await self._observer.see(watch.gone, self._patience.effect)
        if sighting is None:
            injection.missed(f"connections of worker {injection.worker} were still there after they were dropped")
            return
        injection.took_effect(sighting)
        injection.healed = sighting.at

    async def refuse(self, injection: Injection, fault: RefuseConnections) -> None:
        """Refuse new connections for a while, and reset those that there are."""
        async with self._ways[injection.worker]:
            watch = SocketWatch(ports_of(self._target.link(injection.worker)))
            injection.asked = self._observer.clock()
            try:
                await self._network.refuse(injection.worker, on=True)
                if self._network.name == "proxy":  # Toxiproxy has ended them
                    await self._network.drop(injection.worker, "rst")
                sighting = await self._observer.see(watch.refused, self._patience.effect)
                if sighting is not None:
                    injection.took_effect(sighting)
                    await injection.hold(fault.duration)
            finally:
                await self._network.refuse(injection.worker, on=False)
            if sighting is None:
                injection.missed(f"connections of worker {injection.worker} were not refused")
                return
            injection.was_healed(await self._over(injection, watch.accepted))

    async def partition(self, injection: Injection, fault: Partition) -> None:
        """Let nothing pass for a while."""
        if fault.packets == "dropped" and (why := no_dropping()):
            injection.missed(why)
            return
        async with self._probing(injection) as probe:
            if probe is None:
                return
            async with self._cut_off(injection, fault):
                sighting = await self._see(probe.unanswered)
                if sighting is not None:
                    injection.took_effect(sighting)
                    await injection.hold(fault.duration)
            if sighting is None:
                injection.missed(f"worker {injection.worker} was not cut off: a probe on its way was answered")
                return
            injection.was_healed(await self._over(injection, probe.settled))

    @contextlib.asynccontextmanager
    async def _cut_off(self, injection: Injection, fault: Partition) -> AsyncIterator[None]:
        """Nothing passes meanwhile: withheld by the network, or dropped by the kernel."""
        worker, alive = injection.worker, fault.heals == "alive"
        if fault.packets == "withheld":
            injection.asked = self._observer.clock()
            try:
                await self._network.withhold(worker, fault.direction)
                yield
            finally:
                await self._network.release(worker, alive=alive)
            return
        drop = Drop(ports_of(self._target.link(worker)), fault.direction)
        entry = self._journal.record(drop.undo, describe(injection.event))
        injection.asked = self._observer.clock()
        try:
            drop.begin()  # some 10 ms in which nothing else happens here, so that it cannot be left half done
            try:
                yield
            finally:
                drop.end()
        finally:
            self._journal.done(entry)
            if not alive:
                await self._network.drop(worker, "rst" if self._network.name == "proxy" else "fin")

    async def slow(self, injection: Injection, fault: SlowLink) -> None:
        """Let everything take longer for a while."""
        async with self._probing(injection) as probe:
            if probe is None:
                return
            expected = 2 * fault.latency

            async def is_slow(wanted: bool) -> str | None:
                took = await probe.round_trip()
                return f"a round trip takes {took * 1000:.1f} ms" if (took >= expected) == wanted else None

            before = await self._see(partial(is_slow, False))
            if before is None:
                injection.missed(f"the link of worker {injection.worker} was that slow already")
                return
            injection.asked = self._observer.clock()
            shape = orders.Shape(latency=fault.latency, jitter=fault.jitter, bandwidth=fault.bandwidth)
            try:
                await self._network.slow(injection.worker, shape)
                sighting = await self._see(partial(is_slow, True))
                if sighting is not None:
                    injection.took_effect(Sighting(sighting.at, f"{sighting.what} (before, {before.what})"))
                    await injection.hold(fault.duration)
            finally:
                await self._network.slow(injection.worker, None)
            if sighting is None:
                injection.missed(f"the link of worker {injection.worker} was not slow")
                return
            injection.was_healed(await self._over(injection, partial(is_slow, False)))

    async def lose_notify(self, injection: Injection, fault: LoseNotify) -> None:
        """Drop notifications for a while."""
        network = cast(Reading, self._network)
        pattern = orders.Pattern(direction="to-worker", message="NotificationResponse")
        async with self._probing(injection) as probe:
            if probe is None:
                return
            await probe.listen()
            injection.asked = self._observer.clock()
            rule = await network.arm(injection.worker, orders.Strike(pattern=pattern, deed="drop", times=None))
            try:
                sighting = await self._see(probe.unheard)
                if sighting is not None:
                    injection.took_effect(sighting)
                    await injection.hold(fault.duration)
            finally:
                await network.withdraw(injection.worker, rule)
            if sighting is None:
                injection.missed(f"notifications to worker {injection.worker} were not lost")
                return
            injection.was_healed(await self._over(injection, probe.heard))

    async def cut_commit(self, injection: Injection, fault: CutCommit) -> None:
        """Lie in wait for the worker's next COMMIT, for which it has to go on; nothing to undo."""
        network = cast(Reading, self._network)
        watch = SocketWatch(ports_of(self._target.link(injection.worker)))
        injection.asked = self._observer.clock()
        rule = await network.arm(injection.worker, orders.CutCommit(point=fault.at))
        injection.release()
        striking = asyncio.create_task(network.struck(rule))
        healing = asyncio.create_task(injection.healing.wait())
        try:
            await asyncio.wait([striking, healing], return_when=asyncio.FIRST_COMPLETED)
            peer = striking.result() if striking.done() else None
        finally:
            healing.cancel()
            striking.cancel()
            await asyncio.wait([healing, striking])
        if peer is None:
            await network.withdraw(injection.worker, rule)
            injection.missed(f"worker {injection.worker} sent no COMMIT")
            return
        sighting = await self._observer.see(partial(watch.gone_from, peer), self._patience.effect)
        if sighting is None:
            injection.missed(f"the connection of worker {injection.worker} was still there after its COMMIT was cut")
            return
        injection.took_effect(Sighting(sighting.at, f"{sighting.what}, lost at a COMMIT"))
        injection.healed = sighting.at

    @property
    def _network(self) -> Network:
        network = self._target.network
        assert network is not None, "refused before"
        return network

    async def _connected(self, injection: Injection) -> SocketWatch | None:
        """A watch over connections of the worker, once it has any; None (and the injection missed) if it has not in time."""
        held = isinstance(injection.event.trigger, AtPoint)
        deadline = self._observer.clock() + (0.0 if held else self._patience.victim)
        while True:
            watch = SocketWatch(ports_of(self._target.link(injection.worker)))
            if watch.first:
                return watch
            if self._observer.clock() >= deadline or injection.healing.is_set():
                injection.missed(f"worker {injection.worker} has no connection")
                return None
            await asyncio.sleep(POLL)

    @contextlib.asynccontextmanager
    async def _probing(self, injection: Injection) -> AsyncIterator[Probe | None]:
        """A probe on the worker's way, which is ours meanwhile; None (and the injection missed) if none gets through."""
        async with self._ways[injection.worker], contextlib.AsyncExitStack() as stack:
            deadline = self._observer.clock() + self._patience.victim
            while True:
                try:
                    probe = Probe(self._target.link(injection.worker), self._target.dsn)
                    await stack.enter_async_context(probe)
                    break
                except psycopg.OperationalError as error:
                    if self._observer.clock() >= deadline or injection.healing.is_set():
                        injection.missed(f"no probe gets through to the server: {str(error).strip()}")
                        probe = None
                        break
                    await asyncio.sleep(POLL)
            yield probe

    async def _see(self, look: Look) -> Sighting | None:
        """As the observer's `see`; a probe that is lost (another fault took the server away) sees nothing."""
        try:
            return await self._observer.see(look, self._patience.effect)
        except psycopg.Error:
            return None

    async def _over(self, injection: Injection, look: Look) -> Sighting:
        """What shows that the fault is over; if the probe that looks is lost, a new one that gets through shows it."""

        async def gets_through() -> str | None:
            try:
                async with Probe(self._target.link(injection.worker), self._target.dsn) as probe:
                    await probe.round_trip()
            except psycopg.Error:
                return None
            return "a new probe gets through"

        try:
            sighting = await self._observer.see(look, self._patience.outage)
        except psycopg.Error:
            sighting = await self._observer.see(gets_through, self._patience.outage)
        if sighting is None:
            raise RuntimeError(f"the link of worker {injection.worker} is not as it was: {describe(injection.event)}")
        return sighting
