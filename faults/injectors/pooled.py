"""A transaction pooler between one worker and the server, for a while: the worker's way is led through it."""

import asyncio
from typing import cast

from psycopg.conninfo import conninfo_to_dict

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.target import Target
from duress.faults.network import Leading
from duress.faults.observe import Observer, PoolerWatch, ProcessWatch
from duress.faults.plan import Pooler as PoolerFault
from duress.faults.postgres.pooler import Pooler


class PooledFaults:
    """The life of an injection that leads a worker through PgBouncer."""

    def __init__(self, target: Target, observer: Observer, patience: Patience) -> None:
        self._target = target
        self._observer = observer
        self._patience = patience

    async def pool(self, injection: Injection, fault: PoolerFault) -> None:
        """Lead the worker there, reset its connections; lead it back, and reset them again."""
        server, worker = self._target.server, injection.worker
        if server is None or self._target.pair is not None:
            injection.missed("a worker is led through a pooler before a single server of ours only")
            return
        network = cast(Leading, self._target.network)
        database = str(conninfo_to_dict(self._target.dsn)["dbname"])
        pooler = await asyncio.to_thread(Pooler, server)
        try:
            log, process = PoolerWatch(pooler.log_path), ProcessWatch(pooler.pid)
            injection.asked = self._observer.clock()
            try:
                await network.repoint(worker, pooler.dsn(database))
                await network.drop(worker, "rst")
                sighting = await self._observer.see(log.client, self._patience.effect, unless=injection.healing)
                if sighting is not None:
                    injection.took_effect(sighting)
                    await injection.hold(fault.duration)
            finally:
                await network.repoint(worker, self._target.dsn)
                await network.drop(worker, "rst")
        finally:
            await asyncio.to_thread(pooler.close)
        if sighting is None:
            injection.missed(f"worker {worker} made no connection that could be led through the pooler")
            return
        healed = await self._observer.see(process.gone, self._patience.effect)
        if healed is None:
            raise RuntimeError(f"PgBouncer {pooler.pid} was to end and is still there")
        injection.was_healed(healed)
