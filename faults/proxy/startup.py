"""What a client says first: requests for encryption (answered: no), a cancel request, or who it is."""

from dataclasses import dataclass

from duress.faults.proxy.messages import CANCEL_REQUEST, GSS_REQUEST, SSL_REQUEST, STARTUP_LIMIT, refusal

_PROTOCOL = 3
_NO_REPLICATION = refusal(
    "0A000", "replication does not go through duress's proxy: connect it to the server itself (--network none)"
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What to do after some bytes. `opaque`: what follows is not PostgreSQL's ordinary protocol."""

    reply: bytes = b""
    forward: bytes = b""
    rest: bytes = b""  # what came behind it
    done: bool = False
    opaque: bool = False
    refused: bool = False


class Startup:
    """Reads a connection until it is known what it is."""

    def __init__(self) -> None:
        self._heard = b""

    def hear(self, data: bytes) -> Heard:
        """The next bytes from the client."""
        heard = self._heard + data
        reply = b""
        while len(heard) >= 8:
            length, code = int.from_bytes(heard[:4], "big"), int.from_bytes(heard[4:8], "big")
            if code in (SSL_REQUEST, GSS_REQUEST) and length == 8:
                reply, heard = reply + b"N", heard[8:]
                continue
            if not 8 <= length <= STARTUP_LIMIT or (code != CANCEL_REQUEST and code >> 16 != _PROTOCOL):
                return Heard(reply, heard, done=True, opaque=True)
            if len(heard) < length:
                break
            packet, rest = heard[:length], heard[length:]
            if code == CANCEL_REQUEST:
                return Heard(reply, heard, done=True, opaque=True)
            if _asks_for_replication(packet):
                return Heard(reply + _NO_REPLICATION, refused=True)
            return Heard(reply, packet, rest, done=True)
        self._heard = heard
        return Heard(reply)


def _asks_for_replication(packet: bytes) -> bool:
    words = packet[8:].split(b"\0")
    asked = dict(zip(words[::2], words[1::2], strict=False)).get(b"replication", b"")
    return asked.lower() not in (b"", b"false", b"off", b"no", b"0", b"f", b"n")
