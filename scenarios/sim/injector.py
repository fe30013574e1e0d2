"""Which fault of the simulated world does what a plan asks for."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from duress.faults import plan
from duress.faults.injectors.injection import Injection
from duress.faults.plan import Event, Plan
from duress.faults.worlds import refuse
from duress.scenarios.sim.faults import links, processes, server
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
    plan.CrashBackend: server.crash,
    plan.RestartPostgres: server.restart,
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
