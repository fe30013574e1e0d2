"""Faults of worker processes: kill, pause and stop, by signals to the process group."""

import asyncio
import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Callable

from duress.faults.injectors.injection import Injection
from duress.faults.injectors.patience import Patience
from duress.faults.injectors.target import Target, WorkerProcess
from duress.faults.journal import Journal
from duress.faults.observe import Observer, ProcessWatch, Sighting
from duress.faults.plan import AtPoint, KillWorker, PauseWorker, StopWorker, describe
from duress.faults.undo import Resume, group

POLL = 0.01  # seconds between two looks for a victim


class WorkerFaults:
    """The lives of injections that signal workers. `clock` is the observer's."""

    def __init__(self, target: Target, observer: Observer, journal: Journal, patience: Patience) -> None:
        self._target = target
        self._observer = observer
        self._journal = journal
        self._patience = patience
        self._killed: set[int] = set()
        self._respawning: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def kill(self, injection: Injection, fault: KillWorker) -> None:
        """SIGKILL to the group; no `finally`, no goodbye."""
        victim = await self._victim(injection, or_stopped=True)
        if victim is None:
            return
        watch = ProcessWatch(victim.pid)
        self._killed.add(victim.pid)
        if not self._strike(injection, lambda: os.killpg(victim.pgid, signal.SIGKILL)):
            return
        if sighting := await self._observer.see(watch.gone, self._patience.effect):
            injection.took_effect(sighting)
            await self._come_back(injection, victim, fault.restart_after)
        else:
            injection.missed(f"process {victim.pid} was still there {self._patience.effect:g} s after SIGKILL")

    async def pause(self, injection: Injection, fault: PauseWorker) -> None:
        """SIGSTOP to the group, SIGCONT when it is over; what this process does not live to undo is in the journal."""
        victim = await self._victim(injection)
        if victim is None:
            return
        watch = ProcessWatch(victim.pid)
        members = group(victim.pgid)
        entry = self._journal.record(Resume(members), describe(injection.event))
        try:
            if not self._strike(injection, lambda: os.killpg(victim.pgid, signal.SIGSTOP)):
                return
            sighting = await self._observer.see(watch.stopped, self._patience.effect)
            if sighting is not None:
                injection.took_effect(sighting)
                await injection.hold(fault.duration)
        finally:
            if any(member.lives() for member in members):  # else the group's number may be another's by now
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(victim.pgid, signal.SIGCONT)
            self._journal.done(entry)
        if sighting is None:
            injection.missed(f"process {victim.pid} was not stopped {self._patience.effect:g} s after SIGSTOP")
            return
        healed = await self._observer.see(lambda: watch.running() or watch.gone(), self._patience.effect)
        if healed is None:
            raise RuntimeError(f"process {victim.pid} is still stopped {self._patience.effect:g} s after SIGCONT")
        injection.was_healed(healed)

    async def stop(self, injection: Injection, fault: StopWorker) -> None:
        """SIGTERM to the worker itself, which ends whatever it has started."""
        victim = await self._victim(injection)
        if victim is None:
            return
        watch = ProcessWatch(victim.pid)
        if not self._strike(injection, lambda: os.kill(victim.pid, signal.SIGTERM)):
            return
        injection.release()
        sighting = await self._observer.see(watch.gone, self._patience.drain, unless=injection.healing)
        if victim.pid in self._killed:
            injection.missed(f"process {victim.pid} was killed by another fault before it had drained")
        elif sighting is not None:
            injection.took_effect(sighting)
            await self._come_back(injection, victim, fault.restart_after)
        else:
            injection.missed(f"process {victim.pid} did not end after SIGTERM")

    def _strike(self, injection: Injection, send: Callable[[], None]) -> bool:
        """Send the signal; False (and the injection missed) if the process has just ended by itself."""
        injection.asked = self._observer.clock()
        try:
            send()
        except ProcessLookupError:
            injection.missed(f"worker {injection.worker} ended by itself right before the signal")
            return False
        return True

    async def _victim(self, injection: Injection, *, or_stopped: bool = False) -> WorkerProcess | None:
        """The worker's process, once it runs; None (and the injection missed) if it does not in time."""
        held = isinstance(injection.event.trigger, AtPoint)
        deadline = self._observer.clock() + (0.0 if held else self._patience.victim)
        while True:
            process = self._target.process(injection.worker)
            state = None if process is None else ProcessWatch(process.pid).state()
            if process is not None and state is not None and state not in ("ZX" if or_stopped else "ZXTt"):
                return process
            if self._observer.clock() >= deadline or injection.healing.is_set():
                # A zombie has ended: that its parent has not asked for its status yet is of no account.
                found = "not there" if state is None or state in "ZX" else f"in state {state}"
                injection.missed(f"worker {injection.worker} is {found}")
                return None
            await asyncio.sleep(POLL)

    async def _come_back(self, injection: Injection, ended: WorkerProcess, after: float | None) -> None:
        """Start the worker again, unless another injection that ended the same process already has."""
        if after is None:
            return
        await injection.hold(after)
        async with self._respawning[injection.worker]:
            now = self._target.process(injection.worker)
            if now is None or now.pid == ended.pid:
                await self._target.respawn(injection.worker)
        injection.was_healed(self._started_again(injection.worker))

    def _started_again(self, worker: int) -> Sighting:
        """The new process may have met its own end already, by another fault; that it was there is enough."""
        process = self._target.process(worker)
        if process is None:
            raise RuntimeError(f"worker {worker} was to be started again and has no process")
        state = ProcessWatch(process.pid).state()
        what = f"process {process.pid} runs in its place (state {state})" if state else f"process {process.pid} came"
        return Sighting(self._observer.clock(), what)
