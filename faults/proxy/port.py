"""The listening ports of one worker, all its connections, and what is wrong with them now."""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from duress.faults.proxy.connection import Connection
from duress.faults.proxy.leg import Leg, reset
from duress.faults.proxy.log import MessageLog
from duress.faults.proxy.orders import Ending, Fired, Rule, Shape, Sides, Upstream
from duress.faults.proxy.rules import Armed, Rules

BACKLOG: Final = 128


@dataclass(slots=True)
class Door:
    """One listening socket, and the server to which it leads."""

    socket: socket.socket
    upstream: Upstream


class Port:
    """Accepts the worker's connections, on a door for each server, and takes them there. `tell` hears of rules that strike."""

    def __init__(self, worker: int, log: MessageLog, tell: Callable[[Fired], None]) -> None:
        self.worker = worker
        self.log = log
        self.rules = Rules()
        self.entropy = random.Random(f"port of worker {worker}")
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._doors: list[Door] = []
        self._refusing = False
        self._connections: dict[int, Connection] = {}
        self._last = 0
        self._greeting: set[asyncio.Task[None]] = set()
        self._withheld: frozenset[str] = frozenset()
        self._shapes: dict[str, Shape | None] = {"to-server": None, "to-worker": None}
        self._reachable = asyncio.Event()
        self._reachable.set()

    def listen(self, upstream: Upstream, port: int) -> int:
        """Open a door (0: on any port that is free) and return its port. Raises OSError."""
        door = Door(socket.socket(), upstream)
        door.socket.setblocking(False)
        with socket.socket() as finder:
            for one in (finder, door.socket):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if port == 0:
                finder.bind(("127.0.0.1", 0))
                port = finder.getsockname()[1]
            # By its number: a socket that was given any keeps it only as long as it listens.
            door.socket.bind(("127.0.0.1", port))
        self._doors.append(door)
        if not self._refusing:
            self._open(door)
        return port

    def refuse(self, *, on: bool) -> None:
        """Whether connecting is refused. The ports stay ours: a closed socket keeps the number that it was bound to."""
        if on == self._refusing:
            return
        self._refusing = on
        for door in self._doors:
            if on:
                self._loop.remove_reader(door.socket)
                door.socket.shutdown(socket.SHUT_RDWR)
            else:
                self._open(door)

    def repoint(self, upstream: Upstream) -> None:
        """Take new connections to another server."""
        for door in self._doors:
            door.upstream = upstream

    def close(self) -> None:
        """End all connections and give the ports back."""
        for door in self._doors:
            self._loop.remove_reader(door.socket)
            door.socket.close()
        for task in self._greeting:
            task.cancel()
        self.drop("rst")

    def _open(self, door: Door) -> None:
        door.socket.listen(BACKLOG)
        self._loop.add_reader(door.socket, self._accept, door)

    def arm(self, number: int, rule: Rule) -> None:
        """Wait for a message."""
        self.rules.arm(number, rule)
        self._rules_changed()

    def withdraw(self, number: int) -> bool:
        """Forget a rule, and let go what it holds; whether it was armed."""
        was = self.rules.withdraw(number)
        self._rules_changed()
        return was

    def struck(self, armed: Armed, connection: Connection, what: str) -> None:
        """A rule is doing its deed."""
        spent = armed.spent
        if spent and not armed.holds_on:
            self.rules.withdraw(armed.number)
        at = time.monotonic()
        told = Fired(rule=armed.number, at=at, worker=self.worker, peer=connection.peer, what=what, spent=spent)
        self._tell(told)

    def withhold(self, sides: Sides) -> None:
        """Keep what passes in these directions."""
        self._withheld |= {"to-server", "to-worker"} if sides == "both" else {sides}
        self._reachable.clear()
        for connection in self._connections.values():
            self._dress(connection)

    def release(self, *, alive: bool) -> None:
        """Let what was kept go, or reset the connections."""
        self._withheld = frozenset()
        self._reachable.set()
        if not alive:
            self.drop("rst")
        for connection in list(self._connections.values()):
            for leg in (connection.to_server, connection.to_worker):
                leg.release()

    def slow(self, sides: Sides, shape: Shape | None) -> None:
        """Make both or one direction slow, or fast again."""
        for side in ("to-server", "to-worker") if sides == "both" else (sides,):
            self._shapes[side] = shape
        for connection in self._connections.values():
            self._dress(connection)

    def drop(self, ending: Ending, number: int | None = None) -> int:
        """End all connections, or one; how many there were."""
        doomed = [one for one in self._connections.values() if number in (None, one.number)]
        for connection in doomed:
            connection.drop(ending)
        return len(doomed)

    def forget(self, connection: Connection) -> None:
        """Both its ends are gone."""
        self._connections.pop(connection.number, None)

    def _rules_changed(self) -> None:
        for connection in list(self._connections.values()):
            connection.rules_changed()

    def _dress(self, connection: Connection) -> None:
        """Give a connection what holds for all of this port."""
        legs: tuple[tuple[str, Leg], ...] = (("to-server", connection.to_server), ("to-worker", connection.to_worker))
        for side, leg in legs:
            leg.reshape(self._shapes[side])
            if side in self._withheld:
                leg.hold()

    def _accept(self, door: Door) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            for _ in range(BACKLOG):
                accepted, _ = door.socket.accept()
                accepted.setblocking(False)
                task = self._loop.create_task(self._greet(accepted, door))
                self._greeting.add(task)
                task.add_done_callback(self._greeting.discard)

    async def _greet(self, accepted: socket.socket, door: Door) -> None:
        """Take a new connection to the server; if that does not answer, the worker's is reset."""
        self._last += 1
        connection = Connection(self, self._last, peer=accepted.getpeername()[1])
        self._connections[connection.number] = connection
        self._dress(connection)
        connection.to_server.pause("connecting", True)
        transport, _ = await self._loop.connect_accepted_socket(lambda: connection.worker, accepted)
        await self._reachable.wait()
        try:
            await self._connect(connection, door.upstream)
        except OSError:
            reset(transport)
            self.forget(connection)
        else:
            connection.to_server.pause("connecting", False)

    async def _connect(self, connection: Connection, upstream: Upstream) -> None:
        if upstream.path is not None:
            await self._loop.create_unix_connection(lambda: connection.server, upstream.path)
        else:
            await self._loop.create_connection(lambda: connection.server, upstream.host, upstream.port)
