"""The proxy's reading of the protocol: boundaries, statements, and which reply answers what."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duress.faults.proxy.exchange import Exchange
from duress.faults.proxy.messages import Piece, Reader, message
from duress.faults.proxy.statements import statements

bodies = st.one_of(st.binary(max_size=40), st.integers(60_000, 70_000).map(lambda size: b"x" * size))
streams = st.lists(st.tuples(st.sampled_from(list(b"QPBDESdTCZ")), bodies), max_size=12)


def chunks(data: bytes, seed: int) -> list[bytes]:
    """The same bytes in pieces of any length, many of them small."""
    entropy = random.Random(seed)
    found, at = [], 0
    while at < len(data):
        size = entropy.choice([1, 2, 5, 30, 5000, 70_000])
        found.append(data[at : at + size])
        at += size
    return found


@given(streams, st.integers(), st.sampled_from(["to-server", "to-worker"]))
def test_every_message_is_found_however_the_stream_is_cut(messages, seed, direction) -> None:  # type: ignore[no-untyped-def]
    """Nothing is lost, added or put in another order, and each message begins one piece."""
    stream = b"".join(message(bytes([kind]), body) for kind, body in messages)
    reader = Reader(direction)
    pieces = [piece for chunk in chunks(stream, seed) for piece in reader.feed(chunk, passed=False, rows_alone=True)]
    assert b"".join(piece.data for piece in pieces) == stream
    starts = [piece for piece in pieces if piece.body is not None]
    assert [(piece.kind, piece.size) for piece in starts] == [(kind, len(body) + 5) for kind, body in messages]
    for piece, (_, body) in zip(starts, messages, strict=True):
        assert body.startswith(piece.body) and (len(piece.body) == len(body) or len(piece.body) >= 4000)
    assert not reader.behind


@given(streams, st.integers())
def test_looking_may_begin_and_cease_at_any_byte(messages, seed) -> None:  # type: ignore[no-untyped-def]
    """What is passed on unseen and what is passed on in pieces make the stream together."""
    stream = b"".join(message(bytes([kind]), body) for kind, body in messages)
    entropy = random.Random(seed)
    reader, out, seen = Reader("to-server"), b"", list[Piece]()
    looking = False
    for chunk in chunks(stream, seed):
        if entropy.random() < 0.4:
            looking = not looking
            if not looking:
                out += reader.flush()
        found = reader.feed(chunk, passed=not looking)
        out += b"".join(piece.data for piece in found) if looking else chunk
        seen += found
    assert out == stream
    assert sum(piece.messages for piece in seen if piece.body is not None) == len(messages)


def test_what_was_passed_on_of_a_header_is_not_passed_on_again() -> None:
    """Though the rest of it comes in two parts."""
    stream = message(b"Q", b"select 1\0")
    reader = Reader("to-server")
    assert reader.feed(stream[:2], passed=True) == []
    assert reader.feed(stream[2:7], passed=False) == []
    [piece] = reader.feed(stream[7:], passed=False)
    assert piece.data == stream[2:] and piece.body == b"select 1\0"


@pytest.mark.parametrize(
    ("sql", "deeds"),
    [
        ("select 1", ["other"]),
        ("  -- a; b\n /* c; /* d */ ; */ COMMIT  ", ["commit"]),
        ("End;", ["commit"]),
        ("begin; insert into t values ('; commit'); commit", ["begin", "write", "commit"]),
        ("select E'\\'; commit; --'", ["other"]),
        ("select $a$ ; commit; $$ $a$; end", ["other", "commit"]),
        ("create rule r as on insert to t do also (delete from t; delete from u)", ["write"]),
        (
            "create function f() returns int begin atomic select case 1 when 1 then 2 end; select 1; end; commit",
            ["write", "commit"],
        ),
        ("commit prepared 'x'", ["commit-prepared"]),
        ("rollback prepared 'x'", ["other"]),
        ("prepare transaction 'x'", ["prepare"]),
        ("prepare p as select 1", ["other"]),
        ("abort", ["rollback"]),
        ("with a as (delete from t returning 1) select * from a", ["write"]),
        ("with a as (select 1) select * from a", ["other"]),
        ("select 1 into t", ["write"]),
        (";;", []),
        ("", []),
    ],
)
def test_statements_are_told_apart(sql: str, deeds: list[str]) -> None:
    assert [one.deed for one in statements(sql.encode())] == deeds


def parse(sql: str, name: str = "") -> tuple[int, bytes]:
    return ord("P"), f"{name}\0{sql}\0".encode() + b"\0\0"


def bind(statement: str = "", portal: str = "") -> tuple[int, bytes]:
    return ord("B"), f"{portal}\0{statement}\0".encode() + b"\0" * 6


EXECUTE, SYNC, DONE = (ord("E"), b"\0\0\0\0\0"), (ord("S"), b""), (ord("c"), b"")


def asked(*messages: tuple[int, bytes]) -> Exchange:
    exchange = Exchange()
    exchange.answer(ord("Z"), b"I")
    for kind, body in messages:
        exchange.ask(kind, body)
    return exchange


def answered(exchange: Exchange, *kinds: str) -> list[bool]:
    """Whether each reply confirms a commit; a tag stands for a CommandComplete."""
    replies = [
        (kind[0], b"I" if kind == "Z" else b"") if len(kind) == 1 else ("C", kind.encode() + b"\0") for kind in kinds
    ]
    return [exchange.answer(ord(kind), body).committed for kind, body in replies]


def test_the_reply_of_a_commit_in_a_pipeline_is_its_own() -> None:
    """Not the next CommandComplete, which is that of the statement before."""
    batch = [
        one for sql in ("begin", "update t set a = 1", "commit", "select 1") for one in (parse(sql), bind(), EXECUTE)
    ]
    exchange = asked(*batch, SYNC)
    replies = [one for tag in ("BEGIN", "UPDATE 1", "COMMIT", "SELECT 1") for one in ("1", "2", tag)]
    assert answered(exchange, *replies, "Z") == [tag == "COMMIT" for tag in replies] + [False]
    assert exchange.drained


def test_after_an_error_the_queue_skips_to_the_sync() -> None:
    """What was asked behind it, before and after the error was heard, is not answered."""
    behind = (parse("update t set a = 1"), bind(), EXECUTE)
    exchange = asked(parse("begin"), bind(), EXECUTE, parse("select 1/0"), bind(), EXECUTE, *behind)
    assert answered(exchange, "1", "2", "BEGIN", "1", "2", "E") == [False] * 6
    assert exchange.drained and exchange.will_commit(*EXECUTE) is None
    for kind, body in (
        parse("commit"),
        bind(),
        EXECUTE,
        SYNC,
        parse("insert into t values (1)"),
        bind(),
        EXECUTE,
        SYNC,
    ):
        exchange.ask(kind, body)
    assert answered(exchange, "Z", "1", "2", "INSERT 0 1", "Z") == [False, False, False, False, True]
    assert exchange.drained


def test_a_sync_during_copy_is_not_answered() -> None:
    """libpq sends one with the COPY already, and another behind its end."""
    exchange = asked(parse("copy t from stdin"), bind(), EXECUTE, SYNC)
    answered(exchange, "1", "2", "G")
    exchange.ask(*SYNC)
    exchange.ask(*DONE)
    exchange.ask(*SYNC)
    answered(exchange, "COPY 3")
    assert not exchange.drained
    answered(exchange, "Z")
    assert exchange.drained


def test_rows_sent_before_the_server_asks_for_them_are_understood() -> None:
    exchange = asked((ord("Q"), b"copy t from stdin\0"), DONE, (ord("Q"), b"select 1\0"))
    answered(exchange, "G", "COPY 1", "Z")
    assert not exchange.drained
    answered(exchange, "T", "SELECT 1", "Z")
    assert exchange.drained


def test_a_commit_with_nothing_to_commit_is_none() -> None:
    exchange = asked((ord("Q"), b"commit\0"))
    assert answered(exchange, "N", "COMMIT", "Z") == [False, False, False]


def test_a_chained_commit_leaves_a_transaction_open() -> None:
    exchange = asked((ord("Q"), b"begin\0"))
    assert answered(exchange, "BEGIN") == [False]
    exchange.answer(ord("Z"), b"T")
    exchange.ask(ord("Q"), b"commit and chain\0")
    assert answered(exchange, "COMMIT") == [True]
    assert exchange.status == "T"
