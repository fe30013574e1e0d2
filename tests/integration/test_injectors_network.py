"""Faults of a worker's network happen, on our proxy and on Toxiproxy; the kernel's tables and probes say so, or say no."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from injected_workers import held, now
from machine import needs, why_no_toxiproxy

from duress.faults.injectors.patience import Patience
from duress.faults.injectors.procs import ProcsInjector
from duress.faults.injectors.target import WorkerProcess
from duress.faults.journal import Journal, heal_leftovers
from duress.faults.needs import no_dropping
from duress.faults.plan import (
    AnyFault,
    CutCommit,
    DropConnection,
    LoseNotify,
    Partition,
    PlanError,
    RefuseConnections,
    SlowLink,
)
from duress.faults.proxy import open_proxy
from duress.faults.toxiproxy import open_toxiproxy
from duress.scenarios.procs.ground import open_network

Connection = psycopg.AsyncConnection[Any]
LASTS = 0.6
NETWORKS = ["proxy", pytest.param("toxiproxy", marks=needs("toxiproxy", why_no_toxiproxy()))]


@dataclass
class Links:
    """A Target of which only the network matters; the test itself is the worker."""

    dsn: str
    links: dict[int, str]
    network: Any
    server = pair = contention = None

    def link(self, worker: int) -> str:
        return self.links[worker]

    def process(self, worker: int) -> WorkerProcess | None:
        raise AssertionError("no process is struck here")

    async def respawn(self, worker: int) -> None:
        raise AssertionError("no process is struck here")

    async def primary_lost(self) -> None:
        raise AssertionError("nothing fails over here")


class Deaf:
    """A network that does nothing of what an injector tells it."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.name = network.name

    def __getattr__(self, name: str) -> Any:
        if name in ("drop", "refuse", "withhold", "release", "slow"):
            return self._nothing
        return getattr(self._network, name)

    async def arm(self, worker: int, rule: object) -> int:
        return 1

    async def withdraw(self, worker: int, rule: int) -> bool:
        return True

    async def struck(self, rule: int) -> int:
        return int(self.peer)

    async def _nothing(self, *arguments: object, **options: object) -> None:
        return None

    peer = 0


async def connect(dsn: str) -> Connection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


@contextlib.asynccontextmanager
async def standing(
    server: Any, folder: Path, network: str, *, deaf: bool = False, **patience: float
) -> AsyncIterator[tuple[Links, ProcsInjector, Connection]]:
    """Two workers' links, an injector, and a connection of worker 0."""
    dsn = server.dsn(tcp=network == "toxiproxy")
    async with contextlib.AsyncExitStack() as stack:
        between = await stack.enter_async_context(open_proxy() if network == "proxy" else open_toxiproxy())
        links = {number: await between.listen(number, dsn) for number in range(2)}
        target = Links(server.dsn(), links, Deaf(between) if deaf else between)
        injector = ProcsInjector(
            target, clock=time.monotonic, journal=Journal(folder), patience=Patience(**{"effect": 3.0, **patience})
        )
        await stack.enter_async_context(injector)
        yield target, injector, await stack.enter_async_context(await connect(links[0]))


async def works(client: Connection) -> bool:
    await client.execute("select 1")
    return True


async def is_lost(client: Connection) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        await client.execute("select 1")
        return False
    return client.closed


async def hangs(client: Connection) -> bool:
    """For a while; it is answered in the end."""
    began = time.monotonic()
    await client.execute("select 1")
    return time.monotonic() - began > LASTS / 2


async def hangs_and_is_lost(client: Connection) -> bool:
    began = time.monotonic()
    return await is_lost(client) and time.monotonic() - began > LASTS / 2


async def is_slow(client: Connection) -> bool:
    began = time.monotonic()
    await client.execute("select 1")
    return time.monotonic() - began >= 0.1


# The fault, what the worker sees of it, what confirms it, what shows that it is over, and the networks that can do it.
Sees = Callable[[Connection], Any]
TABLE: list[tuple[AnyFault, Sees, str, str, str]] = [
    (DropConnection(how="fin"), is_lost, "no longer established", "", "both"),
    (DropConnection(how="rst"), is_lost, "no longer established", "", "proxy"),
    (RefuseConnections(duration=LASTS), is_lost, "a connection to it is refused", "listened to again", "both"),
    (Partition(duration=LASTS), hangs, "question does not reach", "has been answered", "both"),
    (Partition(duration=LASTS, direction="to-server"), hangs, "question does not reach", "has been answered", "both"),
    (Partition(duration=LASTS, direction="to-worker"), hangs, "no answer arrives", "has been answered", "both"),
    (Partition(duration=LASTS, heals="dead"), hangs_and_is_lost, "does not reach", "connection is lost", "both"),
    (SlowLink(duration=LASTS, latency=0.05, jitter=0.01), is_slow, "a round trip takes", "a round trip takes", "both"),
    (LoseNotify(duration=LASTS), works, "not a probe's", "reaches a probe's session", "proxy"),
]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("fault", "sees", "confirmed", "over", "by"), TABLE)
def test_a_fault_of_the_network_is_seen_confirmed_and_over_when_its_time_is(
    server: Any, tmp_path: Path, network: str, fault: AnyFault, sees: Sees, confirmed: str, over: str, by: str
) -> None:
    async def check() -> None:
        async with (
            standing(server, tmp_path, network) as (target, injector, client),
            await connect(target.link(1)) as other,
        ):
            if by not in ("both", network):
                with pytest.raises(PlanError, match="--network proxy"):
                    await injector.inject(held(fault), 0)
                return
            await client.execute("select 1")
            injection = await injector.inject(held(fault), 0)
            assert injection.fired, injection.reason
            assert confirmed in str(injection.confirmed_by)
            assert await works(other)  # the other worker has another way
            assert await sees(client)
            await injection.done()
            assert over in str(injection.confirmed_by)
            assert injection.asked is not None and injection.effect is not None and injection.healed is not None
            assert injection.asked <= injection.effect <= injection.healed
            async with await connect(target.link(0)) as again:
                began = time.monotonic()
                assert await works(again)
                assert time.monotonic() - began < 0.1

    asyncio.run(asyncio.wait_for(check(), 60))


@pytest.mark.parametrize(("fault", "sees", "confirmed", "over", "by"), TABLE)
def test_what_did_not_happen_is_not_confirmed(
    server: Any, tmp_path: Path, fault: AnyFault, sees: Sees, confirmed: str, over: str, by: str
) -> None:
    """The same observers, and a network that does nothing."""

    async def check() -> None:
        async with standing(server, tmp_path, "proxy", deaf=True, effect=0.5) as (_, injector, client):
            await client.execute("select 1")
            injection = await injector.inject(held(fault), 0)
            assert not injection.fired and injection.reason

    asyncio.run(asyncio.wait_for(check(), 60))


def test_a_commit_is_cut_when_the_worker_goes_on(server: Any, tmp_path: Path) -> None:
    """The injector returns before, for a worker held at a point cannot commit; it tells when that has happened."""

    async def check() -> None:
        async with standing(server, tmp_path, "proxy") as (_, injector, client):
            injection = await injector.inject(held(CutCommit(at="forwarded")), 0)
            assert not injection.fired and injection.reason is None
            with pytest.raises(psycopg.OperationalError):
                async with client.transaction():
                    await client.execute("create temporary table mine (n int)")
            await injection.done()
            assert injection.fired and "lost at a COMMIT" in str(injection.confirmed_by)

    asyncio.run(asyncio.wait_for(check(), 60))


def test_a_worker_that_sends_no_commit_loses_none(server: Any, tmp_path: Path) -> None:
    async def check() -> None:
        async with standing(server, tmp_path, "proxy") as (_, injector, client):
            injection = await injector.inject(now(CutCommit(at="forwarded")), 0)
            await client.execute("select 1")
            await injection.heal()
            assert not injection.fired and injection.reason == "worker 0 sent no COMMIT"
            async with client.transaction():  # nothing lies in wait any more
                await client.execute("create temporary table mine (n int)")

    asyncio.run(asyncio.wait_for(check(), 60))


def test_a_commit_that_was_not_cut_is_not_confirmed(server: Any, tmp_path: Path) -> None:
    async def check() -> None:
        async with standing(server, tmp_path, "proxy", deaf=True, effect=0.3) as (target, injector, client):
            target.network.peer = _port_of(client)
            injection = await injector.inject(now(CutCommit(at="forwarded")), 0)
            await injection.done()
            assert not injection.fired and "still there" in str(injection.reason)

    asyncio.run(asyncio.wait_for(check(), 60))


def _port_of(client: Connection) -> int:
    with socket.socket(fileno=socket.dup(client.pgconn.socket)) as same:
        return int(same.getsockname()[1])


def test_a_worker_without_a_connection_has_none_to_lose(server: Any, tmp_path: Path) -> None:
    async def check() -> None:
        async with standing(server, tmp_path, "proxy") as (_, injector, _):
            injection = await injector.inject(held(DropConnection()), 1)
            assert not injection.fired and injection.reason == "worker 1 has no connection"

    asyncio.run(asyncio.wait_for(check(), 60))


def test_without_a_network_its_faults_are_refused_by_name(server: Any, tmp_path: Path) -> None:
    async def check() -> None:
        async with open_network("none") as nothing:
            target = Links(server.dsn(), {0: server.dsn()}, nothing)
            async with ProcsInjector(target, clock=time.monotonic, journal=Journal(tmp_path)) as injector:
                with pytest.raises(PlanError, match="partition cannot be done in procs with --network none"):
                    await injector.inject(now(Partition(duration=1.0)), 0)

    asyncio.run(check())


def rules() -> set[str]:
    """The kernel's tables that are duress's, whoever's run they are of."""
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    return {line for line in listed.stdout.splitlines() if "duress_" in line}


@pytest.mark.skipif(bool(no_dropping()), reason=no_dropping())
@pytest.mark.parametrize("heals", ["alive", "dead"])
@pytest.mark.parametrize("direction", ["both", "to-server", "to-worker"])
def test_packets_that_the_kernel_drops_are_noticed_by_tcp_itself(
    server: Any, tmp_path: Path, direction: Any, heals: Any
) -> None:
    """And not while they are withheld only. What would undo it is written down meanwhile, and nothing is left of it."""

    others = rules()

    async def check() -> None:
        async with standing(server, tmp_path / "journal", "proxy") as (target, injector, client):
            options = {"tcp_user_timeout": 400, "keepalives_idle": 1}
            watchful = await psycopg.AsyncConnection.connect(target.link(0), autocommit=True, **options)  # type: ignore[arg-type]
            injection = await injector.inject(now(Partition(duration=0.9, direction=direction)), 0)
            assert injection.fired
            assert await hangs(watchful)
            await injection.done()
            fault = Partition(duration=2.5, direction=direction, heals=heals, packets="dropped")
            injection = await injector.inject(now(fault), 0)
            assert injection.fired, injection.reason
            [journal] = (tmp_path / "journal").glob("*.jsonl")
            assert '"nft","delete","table","inet","duress_' in journal.read_text()
            assert await is_lost(watchful)
            assert await works(await connect(target.link(1)))
            await injection.done()
            assert not list((tmp_path / "journal").glob("*.jsonl"))
            assert await (works if heals == "alive" else is_lost)(client)
            assert rules() <= others

    asyncio.run(asyncio.wait_for(check(), 60))


@pytest.mark.skipif(bool(no_dropping()), reason=no_dropping())
def test_doctor_takes_back_the_rules_of_a_harness_that_was_killed(server: Any, tmp_path: Path) -> None:
    harness = """
import asyncio, sys, time
from pathlib import Path
from test_injectors_network import held, standing, Partition
class Server:
    def dsn(self, tcp=False): return sys.argv[1]
async def main():
    async with standing(Server(), Path(sys.argv[2]), "proxy") as (_, injector, _):
        injection = await injector.inject(held(Partition(duration=60, packets="dropped")), 0)
        print(injection.fired, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    others = rules()
    command = [sys.executable, "-c", harness, server.dsn(), str(tmp_path)]
    path = f"{Path(__file__).parent}:{Path(__file__).parents[1]}"
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}) as process:
        assert process.stdout is not None and process.stdout.readline() == b"True\n"
        process.kill()
    left = rules() - others
    assert len(left) == 1
    said = heal_leftovers(tmp_path)
    assert len(said) == 1 and "'nft delete table inet duress_" in said[0]
    assert not left & rules()
