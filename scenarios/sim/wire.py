"""What a campaign and the process that simulates for it tell each other: MessagePack, each message after its length."""

import asyncio
from collections.abc import Mapping
from typing import Any, BinaryIO, TypeVar

import msgspec

from duress.faults.plan import Plan
from duress.scenarios.observed import Happening, Observed
from duress.scenarios.result import Divergence
from duress.scenarios.settings import Settings, Simulating

LENGTH_BYTES = 4
T = TypeVar("T")


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """All that a cell has to know before its first run."""

    reference: str
    canary: str | None
    options: dict[str, int]
    settings: Settings
    simulating: Simulating
    core: int


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The cell is ready, or says why it cannot be."""

    postgres: str = ""
    refused: str | None = None


class Variation(msgspec.Struct, frozen=True, kw_only=True):
    """How one run is to be sized and decided, if not as the others of its cell."""

    options: Mapping[str, int]
    settings: Settings
    simulating: Simulating


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Run this seed under this plan; `twice`: and once more, and compare."""

    seed: int
    plan: Plan
    twice: bool = False
    variation: Variation | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How the run went, or why there is none."""

    observed: Observed | None = None
    diverged: Divergence | None = None
    error: str | None = None  # a traceback
    trace: tuple[Happening, ...] = ()  # what happened until then, if it was kept


def send(stream: BinaryIO, message: msgspec.Struct) -> None:
    """Write one message; the cell's side."""
    body = msgspec.msgpack.encode(message)
    stream.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    stream.flush()


def receive(stream: BinaryIO, type_: type[T]) -> T | None:
    """Read one message; None when the other side has closed."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    return msgspec.msgpack.decode(stream.read(int.from_bytes(head, "big")), type=type_)


async def exchange(process: asyncio.subprocess.Process, message: msgspec.Struct, type_: type[T]) -> T:
    """Send one message and read the answer; the campaign's side. Raises EOFError when the cell has ended."""
    assert process.stdin is not None and process.stdout is not None
    body = msgspec.msgpack.encode(message)
    process.stdin.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    try:
        await process.stdin.drain()
        head = await process.stdout.readexactly(LENGTH_BYTES)
        answer: Any = await process.stdout.readexactly(int.from_bytes(head, "big"))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError from error
    return msgspec.msgpack.decode(answer, type=type_)
