"""Values in and out of the database: JSON, decoded to the annotated types.

The first run of a step gets the decoded checkpoint too, so it cannot differ from a replay. Never pickle. A `Codec` may
transform the bytes (encrypt, compress): what it returns is stored as a JSON string.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from .errors import ValueNotSerializable

_encoder = msgspec.json.Encoder()
_sorted_encoder = msgspec.json.Encoder(order="sorted")


class Codec(Protocol):
    """Transforms stored values, for example by encrypting them."""

    def encode(self, plain: bytes) -> str: ...

    def decode(self, stored: str) -> bytes: ...


@lru_cache(maxsize=4096)
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_)


def is_storable(text: str) -> bool:
    """Whether PostgreSQL takes this as text: no NUL, no lone surrogates."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def same_value(one: Any, other: Any) -> bool:
    """Whether two values are stored as the same JSON, the order of keys and of sets apart."""
    try:
        return _sorted_encoder.encode(one) == _sorted_encoder.encode(other)
    except TypeError:  # keys that are no text cannot be sorted
        return bool(one == other)


def check_type(type_: Any) -> str | None:
    """Why values of this annotated type could not be read back; None if they can."""
    try:
        _decoder(type_)
    except TypeError as error:
        return str(error)
    return None


class Values:
    """Encodes and decodes for one engine."""

    def __init__(self, codec: Codec | None = None) -> None:
        self._codec = codec

    def encode(self, value: Any, place: str) -> str:
        """JSON text of `value`; `place` ("result of step 'charge'") goes into the ValueNotSerializable that may be raised."""
        try:
            encoded = _encoder.encode(value)
            # msgspec writes NaN and infinities as null, which would come back as None.
            where = _not_finite(value, "") if b"null" in encoded else None
        except (TypeError, ValueError, OverflowError, RecursionError, UnicodeError) as error:
            raise ValueNotSerializable(f"the {place} cannot be stored as JSON: {error}") from None
        if where is not None:
            raise ValueNotSerializable(f"the {place} cannot be stored as JSON: it is not a finite number{where}")
        if self._codec is not None:
            return _encoder.encode(self._codec.encode(encoded)).decode()
        return encoded.decode()

    def decode(self, text: str, type_: Any, place: str) -> Any:
        """The value as its annotated type; ValueNotSerializable if it does not fit."""
        try:
            data: str | bytes = text
            if self._codec is not None:
                data = self._codec.decode(msgspec.json.decode(text, type=str))
            return _decoder(type_).decode(data)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ValueNotSerializable(f"the {place} cannot be read back as {type_!r}: {error}") from None


def _not_finite(value: Any, where: str) -> str | None:
    """The place of the first NaN or infinity inside `value`, or None."""
    if isinstance(value, float):
        return None if math.isfinite(value) else where and f" at {where}"
    if isinstance(value, Mapping):
        items = [(f"{where}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, msgspec.Struct):
        items = [(f"{where}.{name}", getattr(value, name)) for name in value.__struct_fields__]
    elif hasattr(type(value), "__attrs_attrs__"):
        items = [(f"{where}.{field.name}", getattr(value, field.name)) for field in type(value).__attrs_attrs__]
    elif is_dataclass(value) and not isinstance(value, type):
        items = [(f"{where}.{field.name}", getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (str, bytes, bytearray)):
        items = [(f"{where}[{index}]", item) for index, item in enumerate(value)]
    else:
        return None
    return next((found for place, item in items if (found := _not_finite(item, place)) is not None), None)
