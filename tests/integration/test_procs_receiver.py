"""The receiver applies each key once and records every attempt, whatever becomes of who made it."""

import asyncio
import random
from typing import Any

import msgspec
from telling_worker import in_a_loop

from duress.scenarios.history import RECEIVED
from duress.scenarios.procs.receiver import ReceiverServer, SocketReceiver
from duress.scenarios.receiver import Answer, Request


def request(key: str = "w:1", attempt: int = 1, epoch: int = 1) -> Request:
    return Request(key=key, workflow="w", step="1", attempt=attempt, epoch=epoch, purpose="charge", body={"cents": 7})


def server(record: list[dict[str, Any]], answers: list[str], **pace: float) -> ReceiverServer:
    def keep(name: str, facts: dict[str, Any]) -> None:
        assert name == RECEIVED
        record.append(facts)

    return ReceiverServer(lambda request: Answer(answers.pop(0)), keep, random.Random(1), **pace)


@in_a_loop
async def test_a_repeated_key_gets_the_first_answer_and_is_not_applied_again() -> None:
    record: list[dict[str, Any]] = []
    async with server(record, ["approved", "declined"]) as receiver:
        way = SocketReceiver(receiver.address)
        first = await way.send(request(attempt=1, epoch=1))
        second = await way.send(request(attempt=1, epoch=2))
        other = await way.send(request(key="x:1"))
    assert [first.status, second.status, other.status] == ["approved", "approved", "declined"]
    assert [(one["key"], one["epoch"], one["applied"]) for one in record] == [
        ("w:1", 1, True),
        ("w:1", 2, False),
        ("x:1", 1, True),
    ]
    assert record[0]["purpose"] == "charge" and "cents" not in record[0], "values stay out of the history"


@in_a_loop
async def test_an_attempt_is_recorded_though_its_worker_dies_before_the_answer() -> None:
    record: list[dict[str, Any]] = []
    async with server(record, ["approved"], soonest=60, latest=60) as receiver:
        _, writer = await asyncio.open_unix_connection(receiver.address)
        writer.write(msgspec.json.encode(request()) + b"\n")
        await writer.drain()
        writer.transport.abort()
        async with asyncio.timeout(10):
            while not record:  # noqa: ASYNC110  # it comes over a socket
                await asyncio.sleep(0.005)
    assert record[0]["applied"]


@in_a_loop
async def test_half_a_request_never_arrived() -> None:
    record: list[dict[str, Any]] = []
    async with server(record, ["approved"]) as receiver:
        reader, writer = await asyncio.open_unix_connection(receiver.address)
        writer.write(msgspec.json.encode(request()))  # all but its end
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await SocketReceiver(receiver.address).send(request(key="later"))
    assert [one["key"] for one in record] == ["later"]
