"""What an event loop offers and a simulated one refuses: everything that waits for the real world."""

from typing import Any, Final, NoReturn, Protocol

_SOCKETS = "in a simulation only connections to PostgreSQL, by psycopg.AsyncConnection, leave the process"
_PROCESSES = "start a simulated process (SimProcess), or run the command outside of the simulation"

REFUSED: Final = {
    "getaddrinfo": _SOCKETS,
    "getnameinfo": _SOCKETS,
    "create_connection": _SOCKETS,
    "create_server": _SOCKETS,
    "create_unix_connection": _SOCKETS,
    "create_unix_server": _SOCKETS,
    "create_datagram_endpoint": _SOCKETS,
    "connect_accepted_socket": _SOCKETS,
    "start_tls": _SOCKETS,
    "sendfile": _SOCKETS,
    "sock_recv": _SOCKETS,
    "sock_recv_into": _SOCKETS,
    "sock_recvfrom": _SOCKETS,
    "sock_recvfrom_into": _SOCKETS,
    "sock_sendall": _SOCKETS,
    "sock_sendto": _SOCKETS,
    "sock_sendfile": _SOCKETS,
    "sock_connect": _SOCKETS,
    "sock_accept": _SOCKETS,
    "add_reader": _SOCKETS,
    "remove_reader": _SOCKETS,
    "add_writer": _SOCKETS,
    "remove_writer": _SOCKETS,
    "connect_read_pipe": _PROCESSES,
    "connect_write_pipe": _PROCESSES,
    "subprocess_exec": _PROCESSES,
    "subprocess_shell": _PROCESSES,
}


class Refusing(Protocol):
    """A loop that raises Escape."""

    def refuse(self, call: str, remedy: str) -> NoReturn: ...


def _refusal(name: str, remedy: str) -> Any:
    def refused(self: Refusing, *args: object, **kwargs: object) -> NoReturn:
        self.refuse(f"loop.{name}", remedy)

    refused.__name__ = refused.__qualname__ = name
    return refused


class Refusals:
    """The refused methods, to be put before asyncio's own."""


for _name, _remedy in REFUSED.items():
    setattr(Refusals, _name, _refusal(_name, _remedy))
