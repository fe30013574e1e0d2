"""Whatever JSON value a step returns, its workflow gets the same from the first run and from every replay."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duress.engine.codec import Values, is_storable, same_value
from duress.engine.definitions import WorkflowDefinition
from duress.engine.errors import ValueNotSerializable

text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@dataclass
class Record:
    name: str
    count: int
    ratio: float
    at: datetime
    tags: set[str]
    by_number: dict[int, bytes]
    rest: Any


records = st.builds(
    Record,
    text,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sets(text, max_size=3),
    st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.binary(), max_size=3),
    json_values,
)


@given(json_values)
def test_json_comes_back_as_it_was(value: Any) -> None:
    values = Values()
    stored = values.encode(value, "value")
    back = values.decode(stored, Any, "value")
    assert back == value
    assert values.encode(back, "value") == stored  # a replay of a replay is the same too
    assert is_storable(stored)


@given(records)
def test_typed_values_come_back_as_they_were(record: Record) -> None:
    values = Values()
    stored = values.encode(record, "value")
    back = values.decode(stored, Record, "value")
    assert back == record
    assert same_value(back, record)
    assert is_storable(stored)


@given(json_values, st.sampled_from([math.nan, math.inf, -math.inf]), st.lists(st.booleans(), max_size=5))
def test_no_value_that_is_no_number_gets_through(value: Any, bad: float, path: list[bool]) -> None:
    hidden: Any = bad
    for in_list in path:
        hidden = [value, hidden] if in_list else {"a": value, "b": hidden}
    where = "".join("[1]" if in_list else "['b']" for in_list in reversed(path))
    with pytest.raises(ValueNotSerializable) as caught:
        Values().encode(hidden, "value")
    assert str(caught.value).endswith(f"not a finite number{' at ' + where if where else ''}")


@given(st.text())
def test_any_text_is_either_stored_or_refused_by_name(value: str) -> None:
    try:
        stored = Values().encode(value, "value")
    except ValueNotSerializable:
        assert any("\ud800" <= character <= "\udfff" for character in value)
    else:
        assert is_storable(stored)


@given(records, st.lists(text, max_size=3), st.dictionaries(text, st.floats(-1e9, 1e9), max_size=3))
def test_arguments_come_back_as_they_were(record: Record, more: list[str], options: dict[str, float]) -> None:
    async def function(record: Record, /, *more: str, **options: float) -> None: ...

    signature = WorkflowDefinition(function, "f").signature
    encoded = signature.encode(Values(), "f", (record, *more), options)
    args, kwargs = signature.decode(Values(), "f", encoded)
    assert args == (record, *more)
    assert kwargs == options
