"""Reproduction tokens: one word that names a run.

    d1.311.s.4711            the run of seed 4711 on Python 3.11
    d1.311.c.eNpjYGRg...     seed and decisions, packed

`d1` is the version of the format and of the ways of drawing: a token of another version would mean another run, and is
refused. So is one of another minor version of Python, whose asyncio schedules differently.
"""

import base64
import binascii
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence

from .errors import TokenError

VERSION = "d1"
PYTHON = f"{sys.version_info.major}{sys.version_info.minor}"

Recorded = Mapping[str, Sequence[int]]


def encode(seed: int, recorded: Recorded | None) -> str:
    """The token of a seed, or of a seed and its recorded decisions."""
    if recorded is None:
        return f"{VERSION}.{PYTHON}.s.{seed}"
    packed = zlib.compress(pack(seed, recorded), 9)
    return f"{VERSION}.{PYTHON}.c.{base64.urlsafe_b64encode(packed).decode().rstrip('=')}"


def decode(token: str) -> tuple[int, dict[str, tuple[int, ...]] | None]:
    """Seed and decisions (None: those of the seed). Raises TokenError, which names what does not fit."""
    parts = token.strip().split(".")
    if len(parts) != 4 or parts[2] not in {"s", "c"}:
        raise TokenError(f"{token!r} is not a reproduction token; one looks like {VERSION}.{PYTHON}.s.4711")
    version, python, form, content = parts
    if version != VERSION:
        raise TokenError(f"this token is of version {version}, and only {VERSION} can be repeated here: {token!r}")
    if python != PYTHON:
        raise TokenError(
            f"this token is of Python {python[:1]}.{python[1:]}, whose asyncio schedules differently; "
            f"this is {PYTHON[:1]}.{PYTHON[1:]}: {token!r}"
        )
    try:
        if form == "s":
            return int(content), None
        raw = base64.b64decode(content + "=" * (-len(content) % 4), altchars=b"-_", validate=True)
        return unpack(zlib.decompress(raw))
    except (ValueError, binascii.Error, zlib.error, StopIteration) as error:
        raise TokenError(f"this token is damaged, perhaps cut off while it was copied: {token!r}") from error


def pack(seed: int, recorded: Recorded) -> bytes:
    """Seed and decisions as few bytes, for a word of one's own."""
    out = bytearray()
    _put(out, seed << 1 if seed >= 0 else (-seed << 1) | 1)
    streams = {name: _trimmed(values) for name, values in sorted(recorded.items())}
    _put(out, len(streams))
    for name, values in streams.items():
        _put(out, len(name.encode()))
        out += name.encode()
        _put(out, len(values))
        for value in values:
            _put(out, value)
    return bytes(out)


def _trimmed(values: Sequence[int]) -> Sequence[int]:
    """Without the zeros at the end, which a replay draws anyway."""
    end = len(values)
    while end and values[end - 1] == 0:
        end -= 1
    return values[:end]


def unpack(packed: bytes) -> tuple[int, dict[str, tuple[int, ...]]]:
    """What was packed. Raises ValueError or StopIteration where that is damaged."""
    source = iter(packed)
    sign_and_seed = _take(source)
    seed = -(sign_and_seed >> 1) if sign_and_seed & 1 else sign_and_seed >> 1
    recorded = {}
    for _ in range(_take(source)):
        name = bytes(next(source) for _ in range(_take(source))).decode()
        recorded[name] = tuple(_take(source) for _ in range(_take(source)))
    if next(source, None) is not None:
        raise ValueError("more follows")
    return seed, recorded


def _put(out: bytearray, number: int) -> None:
    """Seven bits a byte, the lowest first."""
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def _take(source: Iterator[int]) -> int:
    number = shift = 0
    while True:
        byte = next(source)
        number |= (byte & 127) << shift
        if byte < 128:
            return number
        shift += 7
