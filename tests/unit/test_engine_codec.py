"""Values are JSON that comes back as the annotated types; what would not come back is refused, with its place named."""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from duress.engine.codec import Values, check_type, is_storable, same_value
from duress.engine.errors import ValueNotSerializable

PLACE = "result of step 'charge'"


@dataclass
class Line:
    name: str
    price: float
    parts: "list[float] | None" = None


class Order(msgspec.Struct):
    lines: list[Line]
    note: str | None = None


class Point(NamedTuple):
    x: float
    y: float


class Colour(Enum):
    RED = "red"


VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, bool),
    (2**63 - 1, int),
    (-(2**63), int),
    (10**30, int),
    (0.1, float),
    (-0.0, float),
    ("", str),
    ("Grüße, 世界 \U0001f600", str),
    ("a\0b", str),
    ('"\\\n\t', str),
    (b"\x00\xff", bytes),
    (Decimal("12.30"), Decimal),
    (datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC), datetime),
    (timedelta(days=1, seconds=2), timedelta),
    (UUID(int=7), UUID),
    (Colour.RED, Colour),
    ((1, "a"), tuple[int, str]),
    ({3, 1, 2}, set[int]),
    ({1: "a", -2: "b"}, dict[int, str]),
    ({"ключ": [1, 2.5, None]}, dict[str, list[Any]]),
    (Order([Line("a", 1.5), Line("b", 2, [0.5])], "ü"), Order),
    (Point(1, 2), Point),
    ("x" * 1_000_000, str),
    (list(range(100_000)), list[int]),
]


@pytest.mark.parametrize(("value", "type_"), VALUES, ids=lambda value: repr(value)[:30])
def test_values_come_back_as_their_type(value: Any, type_: Any) -> None:
    values = Values()
    back = values.decode(values.encode(value, PLACE), type_, PLACE)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (math.nan, ""),
        (math.inf, ""),
        ([1, [2.0, -math.inf]], r" at \[1\]\[1\]"),
        ({"a": {"b": math.nan}}, r" at \['a'\]\['b'\]"),
        (Line("x", math.nan), r" at \.price"),
        (Order([Line("x", 1, [None, math.inf])]), r" at \.lines\[0\]\.parts\[1\]"),  # type: ignore[list-item]
        ((None, Point(1, math.nan)), r" at \[1\]\[1\]"),
        ({math.inf}, r" at \[0\]"),
    ],
)
def test_what_is_no_number_is_refused_with_its_place(value: Any, where: str) -> None:
    with pytest.raises(ValueNotSerializable, match=f"^the {PLACE} cannot .* it is not a finite number{where}$"):
        Values().encode(value, PLACE)


def test_a_null_beside_numbers_is_no_nan() -> None:
    assert Values().encode({"a": None, "b": [1.0, None]}, PLACE) == '{"a":null,"b":[1.0,null]}'


@pytest.mark.parametrize("value", [object(), "\ud800", {"a": ["\udfff"]}, {(1, 2): 3}, lambda: 1, [b"x", object()]])
def test_what_is_no_json_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(ValueNotSerializable, match=PLACE):
        Values().encode(value, PLACE)


@pytest.mark.parametrize("leaf", [1, None])
def test_a_value_nested_too_deeply_is_refused(leaf: int | None) -> None:
    value: Any = leaf
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueNotSerializable):
        Values().encode(value, PLACE)


def test_a_cycle_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueNotSerializable):
        Values().encode(value, PLACE)


def test_what_does_not_fit_the_type_says_so() -> None:
    with pytest.raises(ValueNotSerializable, match=r"result of step 'charge' cannot be read back as .*Line.*price"):
        Values().decode('{"name": "a"}', Line, PLACE)


def test_types_that_cannot_be_read_back_are_known_beforehand() -> None:
    assert check_type(dict[str, int]) is None
    assert check_type(int | Line | Order) is not None  # which of the two classes a JSON object means cannot be known


class Reversed:
    """A codec whose output shows that nothing of the value is stored as it was."""

    def encode(self, plain: bytes) -> str:
        return base64.b64encode(plain[::-1]).decode()

    def decode(self, stored: str) -> bytes:
        return base64.b64decode(stored)[::-1]


def test_a_codec_sees_all_that_is_stored() -> None:
    values = Values(Reversed())
    stored = values.encode({"secret": "ключ"}, PLACE)
    assert "secret" not in stored
    assert isinstance(msgspec.json.decode(stored), str)
    assert values.decode(stored, dict[str, str], PLACE) == {"secret": "ключ"}
    with pytest.raises(ValueNotSerializable):
        values.decode('{"plain": 1}', Any, PLACE)


def test_an_error_never_shows_the_value() -> None:
    with pytest.raises(ValueNotSerializable) as caught:
        Values().decode('{"name": "hunter2", "price": "hunter2"}', Line, PLACE)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("text", "good"), [("", True), ("ü世\U0001f600", True), ("a\0", False), ("\ud800", False)])
def test_what_postgresql_takes_as_text(text: str, good: bool) -> None:
    assert is_storable(text) is good


def test_the_order_of_keys_and_sets_makes_no_other_value() -> None:
    one: Mapping[str, Any] = {"a": 1, "b": {"x", "y", "z"}}
    assert same_value(one, {"b": {"z", "y", "x"}, "a": 1})
    assert not same_value({"a": 1}, {"a": True})
    assert not same_value([1, 2], [2, 1])
