"""Faults of workers happen to real processes, say when they did, and leave nothing behind."""

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from injected_workers import held, now, state, struck, until

from duress.faults.observe import ProcessWatch
from duress.faults.plan import KillWorker, PauseWorker, StopWorker
from duress.faults.postgres import Server


def journal_files(folder: Path) -> list[Path]:
    return list(folder.glob("*.jsonl"))


def test_kill_ends_the_whole_group_and_the_worker_comes_back(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, [ready]):
            first = workers.processes[0]
            injection = await injector.inject(held(KillWorker(restart_after=0.2)), 0)
            assert injection.fired
            assert injection.confirmed_by == f"process {first.pid} is gone"
            assert state(ready.child) in ("", "Z")
            await injection.done()
            assert workers.processes[0].pid != first.pid
            assert await first.wait() == -9
            assert injection.asked is not None and injection.effect is not None and injection.healed is not None
            assert injection.asked < injection.effect <= injection.healed - 0.2
            assert f"process {workers.processes[0].pid} runs in its place" in str(injection.confirmed_by)

    asyncio.run(run())


def test_a_kill_for_good_is_not_healed(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, _):
            injection = await injector.inject(now(KillWorker(restart_after=None)), 0)
            await injection.done()
            assert injection.fired
            assert injection.healed is None
        assert workers.respawned == []

    asyncio.run(run())


def test_leaving_brings_a_killed_worker_back_at_once(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, _):
            injection = await injector.inject(now(KillWorker(restart_after=600)), 0)
            async with asyncio.timeout(10):
                await injection.heal()
            assert workers.respawned == [0]
            assert injection.healed is not None

    asyncio.run(run())


def test_pause_stops_the_whole_group_for_its_duration(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, [ready]):
            pid = workers.processes[0].pid
            injection = await injector.inject(held(PauseWorker(duration=0.4)), 0)
            assert injection.confirmed_by == f"process {pid} is stopped (state T)"
            assert [state(pid), state(ready.child)] == ["T", "T"]
            assert len(journal_files(tmp_path)) == 1
            await injection.done()
            await until(lambda: state(ready.child) != "T")
            assert state(pid) != "T"
            assert injection.asked is not None and injection.effect is not None and injection.healed is not None
            assert injection.asked < injection.effect
            assert 0.4 <= injection.healed - injection.effect < 2
            assert journal_files(tmp_path) == []

    asyncio.run(run())


def test_heal_ends_a_pause_early_and_may_be_repeated(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, _):
            injection = await injector.inject(now(PauseWorker(duration=600)), 0)
            await injection.heal()
            await injection.heal()
            assert state(workers.processes[0].pid) != "T"
            assert injection.healed is not None

    asyncio.run(run())


@pytest.mark.parametrize("how", ["error", "cancelled"])
def test_what_is_paused_goes_on_however_the_injector_is_left(server: Server, tmp_path: Path, how: str) -> None:
    left: list[str] = []

    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, _):
            pid = workers.processes[0].pid
            try:
                async with injector:
                    await injector.inject(now(PauseWorker(duration=600)), 0)
                    assert state(pid) == "T"
                    if how == "error":
                        raise KeyError("of the harness")
                    asyncio.current_task().cancel()  # type: ignore[union-attr]
                    await asyncio.sleep(600)
            finally:
                left.append(state(pid))

    with pytest.raises(KeyError if how == "error" else asyncio.CancelledError):
        asyncio.run(run())
    assert left and left != ["T"]
    assert journal_files(tmp_path) == []


def test_a_worker_killed_while_paused_counts_as_no_longer_paused(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, _):
            first = workers.processes[0]
            pause = await injector.inject(now(PauseWorker(duration=0.3)), 0)
            kill = await injector.inject(now(KillWorker(restart_after=0)), 0)
            await injector.settle()
            assert kill.fired and pause.fired
            assert pause.healed is not None
            assert f"process {first.pid} is gone" in str(pause.confirmed_by)
            assert state(workers.processes[0].pid) != "T"

    asyncio.run(run())


def test_stop_lets_the_worker_end_by_itself_and_does_not_wait_for_it(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, manners="slow") as (workers, injector, _):
            first = workers.processes[0]
            injection = await injector.inject(held(StopWorker(restart_after=0.1)), 0)
            assert injection.asked is not None
            assert injection.effect is None  # a worker held at its point ends only after this
            await injection.done()
            assert injection.fired
            assert await first.wait() == 0
            assert workers.processes[0].pid != first.pid
            assert injection.healed is not None

    asyncio.run(run())


def test_a_worker_that_ignores_sigterm_was_not_stopped(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, manners="stubborn", drain=0.3) as (workers, injector, _):
            pid = workers.processes[0].pid
            injection = await injector.inject(now(StopWorker()), 0)
            await injection.done()
            assert not injection.fired
            assert injection.reason == f"process {pid} did not end after SIGTERM"
            assert workers.respawned == []

    asyncio.run(run())


def test_leaving_does_not_wait_for_a_worker_to_drain(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, manners="stubborn", drain=600) as (_, injector, _ready):
            injection = await injector.inject(now(StopWorker()), 0)
            async with asyncio.timeout(10):
                await injection.heal()
            assert not injection.fired

    asyncio.run(run())


def test_a_worker_killed_while_it_drains_was_not_stopped_and_comes_back_once(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, manners="stubborn") as (workers, injector, _):
            stop = await injector.inject(now(StopWorker(restart_after=0)), 0)
            kill = await injector.inject(now(KillWorker(restart_after=0)), 0)
            await injector.settle()
            assert kill.fired
            assert not stop.fired
            assert "killed by another fault" in str(stop.reason)
            assert workers.respawned == [0]

    asyncio.run(run())


def test_a_worker_ended_by_two_faults_at_once_comes_back_once(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, manners="slow") as (workers, injector, _):
            event = now(StopWorker(restart_after=0.1))
            stops = await asyncio.gather(injector.inject(event, 0), injector.inject(event, 0))
            await injector.settle()
            assert all(stop.healed is not None for stop in stops)
            assert workers.respawned == [0]

    asyncio.run(run())


@pytest.mark.parametrize("fault", [KillWorker(), PauseWorker(duration=0.1), StopWorker()])
def test_a_worker_that_is_away_cannot_be_struck(
    server: Server, tmp_path: Path, fault: KillWorker | PauseWorker | StopWorker
) -> None:
    async def run() -> None:
        async with struck(server, tmp_path, victim=0.5) as (_, injector, _ready):
            await (await injector.inject(now(KillWorker(restart_after=None)), 0)).done()
            for event in (held(fault), now(fault)):
                began = time.monotonic()
                injection = await injector.inject(event, 0)
                await injection.done()
                assert not injection.fired
                assert injection.asked is injection.healed is None
                assert injection.reason == "worker 0 is not there"
                waited = time.monotonic() - began
                assert (waited < 0.5) == (event == held(fault))

    asyncio.run(run())


def test_a_time_trigger_waits_for_a_worker_that_is_coming_back(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, injector, _):
            first = workers.processes[0].pid
            await injector.inject(now(KillWorker(restart_after=0.2)), 0)
            injection = await injector.inject(now(PauseWorker(duration=0.1)), 0)
            assert injection.fired
            assert workers.processes[0].pid != first

    asyncio.run(run())


@pytest.mark.parametrize("fault", [KillWorker(), PauseWorker(duration=0.1), StopWorker()])
def test_a_signal_that_is_not_sent_is_not_a_fault(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: KillWorker | PauseWorker | StopWorker
) -> None:
    """The same observation without the injection says: not fired."""

    async def run() -> None:
        async with struck(server, tmp_path, effect=0.2, drain=0.2) as (workers, injector, _):
            with monkeypatch.context() as patched:
                patched.setattr(os, "kill", lambda *_: None)
                patched.setattr(os, "killpg", lambda *_: None)
                injection = await injector.inject(held(fault), 0)
                await injection.done()
            assert not injection.fired
            assert injection.confirmed_by is None
            assert str(workers.processes[0].pid) in str(injection.reason)
            assert workers.respawned == []

    asyncio.run(run())


def test_another_process_with_its_number_is_not_the_one_that_was_watched() -> None:
    watch = ProcessWatch(os.getpid())
    assert watch.running() and not watch.gone()
    assert watch._first is not None
    watch._first = replace(watch._first, started=watch._first.started - 1)
    assert watch.state() is None
    assert watch.running() is watch.stopped() is None


def test_a_group_is_stopped_when_all_of_it_is(server: Server, tmp_path: Path) -> None:
    async def run() -> None:
        async with struck(server, tmp_path) as (workers, _, _ready):
            pid = workers.processes[0].pid
            watch = ProcessWatch(pid)
            os.kill(pid, signal.SIGSTOP)
            await until(lambda: state(pid) == "T")
            assert watch.stopped() is None
            os.killpg(pid, signal.SIGSTOP)
            await until(lambda: watch.stopped() is not None)
            assert ProcessWatch(pid).stopped() is None  # it was so before this watch began

    asyncio.run(run())
