"""Which fault of the simulated world does what a plan asks for."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from duress.faults import plan
from duress.faults.injectors.injection import Injection
from duress.faults.plan import Event, Plan
from duress.faults.worlds import refuse
from duress.scenarios.sim.faults import clocks, links, processes, server, statements
from duress.scenarios.sim.faults.scene import Scene

Life = Callable[[Scene, Injection, Any], Coroutine[None, None, None]]

LIVES: Final[Mapping[type[plan.Fault], Life]] = {
    plan.KillWorker: processes.kill,
    plan.PauseWorker: processes.pause,
    plan.StopWorker: processes.stop,
    plan.DropConnection: links.drop,
    plan.RefuseConnections: links.refuse,
    plan.Partition: links.partition,
    plan.SlowLink: links.slow,
    plan.CutCommit: links.cut_commit,
    plan.LoseNotify: links.lose_notify,
    plan.TerminateBackend: server.terminate,
    plan.CancelStatement: statements.cancel,
    plan.StatementTimeout: statements.statement_timeout,
    plan.LockTimeout: statements.lock_timeout,
    plan.Deadlock: statements.deadlock,
    plan.SerializationFailure: statements.serialization_failure,
    plan.IdleInTransactionTimeout: statements.idle_in_transaction,
    plan.ReadOnly: statements.read_only,
    plan.CrashBackend: server.crash,
    plan.RestartPostgres: server.restart,
    plan.CrashAtCommit: server.crash_at_commit,
    plan.PausePostgres: server.pause,
    plan.TooManyConnections: server.too_many_connections,
    plan.DiskFull: server.disk_full,
    plan.FsyncFails: server.fsync_fails,
    plan.ClockSkew: clocks.skew,
    plan.ClockJump: clocks.jump,
}


class SimInjector:
    """Injects faults into a crew and its server."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def inject(self, event: Event, worker: int) -> Injection:
        """Inject `event` into worker `worker`; returns when the victim may go on. See ProcsInjector.inject.

        What waits for the victim to do something (to commit, to connect) returns when it is set up.
        """
        refuse(Plan(events=(event,)), "sim")
        injection = Injection(event, worker)
        injection.begin(LIVES[type(event.fault)](self._scene, injection, event.fault))
        await injection.released()
        return injection
