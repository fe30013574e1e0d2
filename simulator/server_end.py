"""The real connection to the server behind a session.

A session that came to an orderly end is put back to how it began (DISCARD ALL), so that it can be another run's, for a
client that asks for the same or goes by another application_name. Its process, and so its pid, is that run's too.
"""

import _socket
import os
from contextlib import suppress
from pathlib import Path
from select import POLLIN, poll
from typing import TYPE_CHECKING, Final

from .server import Backend, HarnessError, Ready
from .wire import backend_pid, greeting_to, is_finished, query, walk, without_name

if TYPE_CHECKING:
    from .server import Cell

_CHUNK: Final = 65536
_GREETING_S: Final = 10.0
_MOST_SIGNALS: Final = 100


class ServerEnd:
    """A connection to the server, registered for control."""

    def __init__(self, cell: "Cell", socket: _socket.socket, startup: bytes, greeting: bytes, pid: int) -> None:
        self._cell = cell
        self._socket = socket
        self._backend: Backend | None = None
        self._likeness, self._name = without_name(startup)
        self._startup = startup
        self._becomes = b""
        self.greeting = greeting
        self.pid = pid

    @property
    def backend(self) -> Backend:
        assert self._backend is not None
        return self._backend

    def can_serve(self, startup: bytes) -> bool:
        """Whether it may stand for a session that a client asks for so: as it is, or by another application_name."""
        likeness, name = without_name(startup)
        return startup == self._startup or bool(name and self._name and likeness == self._likeness)

    def serve(self, startup: bytes) -> None:
        """Be the session of a client that has asked for one so, from `begin` on."""
        if startup != self._startup:
            self._startup = startup
            _, self._name = without_name(startup)
            self._becomes = self._name
            self.greeting = greeting_to(self._name, self.greeting)

    def adopt(self, seed: int) -> None:
        """Come under control, with this seed for the server's own randomness."""
        self._backend = self._cell.adopt(self.pid, seed, name=self._becomes)
        self._becomes = b""

    def is_alive(self) -> bool:
        """Whether the server still keeps it, while it is in nobody's hands: a program may have terminated it."""
        try:
            self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except ConnectionError:
            pass
        return False  # its last words, or the end

    def read(self) -> bytes:
        """What the server has sent."""
        parts = []
        while True:
            try:
                part = self._socket.recv(_CHUNK)
            except (BlockingIOError, ConnectionError):
                break
            if not part:
                break
            parts.append(part)
            if len(part) < _CHUNK:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, chunk: bytearray) -> None:
        """Send as much as the server's socket takes, and remove that from `chunk`."""
        try:
            while chunk:
                sent = self._socket.send(chunk)
                del chunk[:sent]
        except BlockingIOError:
            pass
        except ConnectionError:
            chunk.clear()

    def fileno(self) -> int:
        return self._socket.fileno()

    def hang_up(self) -> None:
        """The client's side is closed: the server reads the rest and then the end, and can send no more."""
        with suppress(OSError):  # the server was first
            self._socket.shutdown(_socket.SHUT_RDWR)

    def leave(self, *, idle: bool) -> bool:
        """What the end of a session does to others (locks, temporary tables, LISTEN), without ending it, and release it.

        `idle`: it is in no transaction. It goes by another name from then on: who looks for the sessions of some program
        does not find it. False: it could not be done, and the session must end.
        """
        left = (
            (idle or self._ask("rollback"))
            and self._ask("discard all")
            and self._ask("set application_name = 'sim:resting'")
            and self._drain()
        )
        if left:
            self.release()
        return left

    def begin(self, fraction: float) -> None:
        """Make a session that is kept and one that is new the same."""
        self._drain()  # of a new one the timer of its authentication, which a kept one has not
        if not self._ask(f"reset application_name; select setseed({fraction!r})"):
            raise HarnessError(f"session with pid {self.pid} could not be prepared for a run")

    def setting(self, name: str) -> str:
        """What a setting of the session is, while it is between two exchanges."""
        heard = self._say(f"show {name}") or b""
        for kind, body in walk(heard):
            if kind == ord("D"):
                return body[6:].decode()
        raise HarnessError(f"the session with pid {self.pid} does not say what its {name} is")

    def set(self, name: str, value: str, *, local: bool = False) -> bool:
        """Change a setting of the session, while it is between two exchanges."""
        return self._ask(f"set {'local ' if local else ''}{name} = '{value}'")

    def _ask(self, text: str) -> bool:
        """Whether the server did it."""
        heard = self._say(text)
        return heard is not None and all(kind != ord("E") for kind, _ in walk(heard))

    def _say(self, text: str) -> bytes | None:
        """All that the server answers; None if it stops in the middle."""
        self._socket.sendall(query(text))
        heard = b""
        while not is_finished(heard):
            event = self.backend.wait(self.fileno())
            heard += self.read()
            if not isinstance(event, Ready):
                return None
        return heard

    def _drain(self) -> bool:
        """PostgreSQL must not go on believing that a timer is armed that will never come: let all go off, out of time.

        The session is in no transaction and waits for its client, so nothing comes of them.
        """
        now = self._cell.now_us
        for _ in range(_MOST_SIGNALS):
            due = self.backend.timer_us
            if due is None:
                break
            self._cell.set_now(max(due, now))
            self.backend.deliver_timer()
        self._cell.set_now(now)
        return isinstance(self.backend.wait(self.fileno()), Ready)

    def release(self) -> None:
        """Leave control: from now on the process does what it likes."""
        if self._backend is not None:
            self._backend.release()
            self._backend = None

    def finish(self) -> None:
        """End the session, whatever it is doing, and see its process go."""
        self.hang_up()
        self.backend.end()
        self.close()

    def discard(self) -> None:
        """End a session that is in nobody's hands, and see its process go."""
        try:
            process = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self.close()
            return
        self.close()
        ending = poll()
        ending.register(process, POLLIN)
        ended = ending.poll(_GREETING_S * 1000)
        os.close(process)
        if not ended:
            raise HarnessError(f"the process of a session that was kept (pid {self.pid}) does not end")

    def close(self) -> None:
        """Close the socket; the server's process ends by that if it has not."""
        self.release()
        self._socket.close()


def connect(cell: "Cell", startup: bytes) -> ServerEnd | bytes:
    """A new connection, not yet under control; or what the server says if it refuses."""
    socket = _connected(cell.socket_path)
    socket.settimeout(_GREETING_S)
    socket.sendall(startup)
    heard = b""
    while not is_finished(heard):
        part = socket.recv(_CHUNK)
        if not part:
            socket.close()
            return heard
        heard += part
    pid = backend_pid(heard)
    if pid is None:
        raise HarnessError("PostgreSQL greeted a connection without a process id")
    socket.setblocking(False)
    return ServerEnd(cell, socket, startup, heard, pid)


def _connected(path: Path) -> _socket.socket:
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    socket.connect(str(path))
    return socket
