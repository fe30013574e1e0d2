"""Where libpq connects to in a run: a socket of ours, so that what it sends and receives is a string of bytes in our hands.

libpq is unmodified and believes in its server. A killed process never touches libpq's structures: only our end goes.
"""

import _socket  # `socket.socket` is refused to the program under simulation
import os
from itertools import count
from select import POLLIN, poll
from typing import Final, Literal

ENOUGH: Final = 65536
_NUMBERS: Final = count(1)

How = Literal["fin", "rst"]


class Port:
    """A listening socket without a file (an abstract unix address), of this process."""

    def __init__(self) -> None:
        # libpq takes a host that begins with @ for an abstract address.
        self.host = f"@duress-{os.getpid()}-{next(_NUMBERS)}"
        self.number = 5432
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._listener.bind(f"\0{self.host[1:]}/.s.PGSQL.{self.number}".encode())
        self._listener.listen(16)
        self._listener.setblocking(False)

    def accept(self) -> "ClientEnd | None":
        """Our end of a connection that libpq has just made, if it has."""
        try:
            descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return None
        near = _socket.socket(fileno=descriptor)
        near.setblocking(False)
        return ClientEnd(near)

    def close(self) -> None:
        self._listener.close()


class ClientEnd:
    """Our end of what libpq takes for its connection to the server."""

    def __init__(self, near: _socket.socket) -> None:
        self._near = near
        self._backlog = bytearray()
        self._poll = poll()
        self.ended = False  # libpq has closed its end
        self.closed = False  # we have closed ours

    def watch(self, descriptor: int) -> None:
        """`descriptor` is libpq's end."""
        self._poll.register(descriptor, POLLIN)

    def readable(self) -> bool:
        """Whether libpq would find something to read, an end included."""
        if self._backlog:
            self._push()
        return bool(self._poll.poll(0))

    def take(self, *, end: bool = False) -> tuple[bytes, bool]:
        """What libpq has written since, and whether it has closed its end. `end`: it has, or is about to: see until then."""
        if self.ended or self.closed:
            return b"", self.ended
        taken = []
        while True:
            try:
                chunk = self._near.recv(ENOUGH)
            except BlockingIOError:
                break
            except ConnectionError:
                chunk = b""
            if not chunk:
                self.ended = True
                break
            taken.append(chunk)
            if len(chunk) < ENOUGH and not end:
                break
        return (taken[0] if len(taken) == 1 else b"".join(taken)), self.ended

    def give(self, chunk: bytes) -> None:
        """Let libpq find these bytes when it reads next."""
        if self.closed or self.ended:
            return
        self._backlog += chunk
        self._push()

    def _push(self) -> None:
        try:
            while self._backlog and not self.closed:
                sent = self._near.send(self._backlog)
                del self._backlog[:sent]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = True
            self._backlog.clear()

    def close(self, how: How, descriptor: int = -1) -> None:
        """End it: libpq reads the rest and then the end ("fin"), or an error ("rst"; `descriptor` is libpq's end)."""
        if self.closed:
            return
        if how == "rst" and descriptor >= 0 and not self.ended:
            self._backlog.clear()
            # A unix socket that is closed with something unread resets the other side.
            os.write(descriptor, b"\0")
        self._push()
        self.closed = True
        self._near.close()
