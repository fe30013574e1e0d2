"""Faults of the server: restart it; and how it is seen to be back after an outage."""

import asyncio

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.target import Target
from duress.faults.observe import LogWatch, Observer, ProcessWatch, Sighting
from duress.faults.plan import RestartPostgres

POLL = 0.002  # seconds between two looks for a session; a transaction may be open for a few milliseconds only


class ServerFaults:
    """The lives of injections that take our own server away."""

    def __init__(self, target: Target, observer: Observer, patience: Patience) -> None:
        self._target = target
        self._observer = observer
        self._patience = patience
        self.outage = asyncio.Lock()  # one at a time: a restart in the middle of crash recovery is another fault

    async def restart(self, injection: Injection, fault: RestartPostgres) -> None:
        """Stop the server, leave it away for a while, start it. heal() cannot shorten its absence."""
        async with self.outage:
            server = self._target.server  # not before: the outage that was waited for may have been a failover
            assert server is not None, "refused before"
            before = await self._observer.server_started()
            log = self._observer.log()
            watch = ProcessWatch(server.postmaster_pid)
            injection.asked = self._observer.clock()
            restart = asyncio.create_task(asyncio.to_thread(server.restart, fault.mode, fault.down))
            try:
                sighting = await self._observer.see(watch.gone, self._patience.effect)
                if sighting is not None:
                    injection.took_effect(sighting)
            finally:
                await asyncio.shield(restart)
            if sighting is None:
                injection.missed(f"postmaster {watch.pid} was not seen to end")
                return
            injection.was_healed(await back(self._observer, self._patience, log, other_than=before))


async def back(
    observer: Observer, patience: Patience, log: LogWatch | None, other_than: float | None = None
) -> Sighting:
    """The server says that it is ready, and answers; after a restart, as another postmaster."""
    assert log is not None, "our own server's log can be read"

    async def look() -> str | None:
        ready = log.ready()
        started = await observer.server_started() if ready else None
        if started is None or started == other_than:
            return None
        return ready if other_than is None else f"pg_postmaster_start_time went from {other_than} to {started}"

    sighting = await observer.see(look, patience.outage)
    if sighting is None:
        raise RuntimeError(f"the server was not back {patience.outage:g} s after an outage")
    return sighting
