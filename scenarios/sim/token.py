"""Reproduction tokens of scenario runs: one word that names everything that decides a simulated run.

    s1.311.payments.17.0YyvHk2mTg3mWZxyzC4        seed 17 of payments on Python 3.11, everything else as usual
    s1.311.shop.orders:orders.4.0YyvHk2mTg3mW...  longer, where something is not as usual

Version, Python's minor version, scenario, seed, and packed: a check sum, the hash of the run's record, the fingerprint of
the code, and what differs from the usual: canary, sizes, settings, kinds of faults, a plan that was not drawn, scheduler,
recorded choices. `s1` is the version of this format and of the ways of drawing: raise it when a seed comes to mean
another plan or another run though the scenario and the engine are the same. Another version's token is refused.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from duress.faults.plan import Plan
from duress.scenarios.settings import SCHEDULER
from duress.simulator import tokens
from duress.simulator.errors import TokenError

VERSION: Final = "s1"
HASH_BYTES: Final = 6
CODE_BYTES: Final = 4
_CHECK_BYTES: Final = 4
_FIXED: Final = _CHECK_BYTES + HASH_BYTES + CODE_BYTES
_USUAL_POSTGRES: Final = 18
_VERSION: Final = re.compile("s[0-9]+")
_EXAMPLE: Final = f"{VERSION}.{tokens.PYTHON}.payments.17.…"


class Unusual(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is not as usual in a run. None: as usual."""

    canary: str | None = None
    options: Mapping[str, int] = {}  # sizes of the scenario
    settings: Mapping[str, int | float | str | tuple[int, ...]] = {}
    kinds: tuple[str, ...] | None = None  # of the faults that were drawn
    plan: Plan | None = None  # None: drawn from the seed
    scheduler: str = SCHEDULER
    choices: bytes | None = None  # see simulator.tokens.pack; None: those of the seed
    postgres: int = _USUAL_POSTGRES  # its major version


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """A run, by all that decides it. `hash` and `code` (hex) say how it went, and by which code; None: nobody has seen it."""

    reference: str
    seed: int
    unusual: Unusual = Unusual()
    hash: str | None = None
    code: str | None = None

    def same(self, digest: str) -> bool | None:
        """Whether a run with this hash is the one that is meant; None if that cannot be told."""
        return None if self.hash is None else digest.startswith(self.hash)


def encode(run: Reproduction) -> str:
    """The token of a run."""
    head = f"{VERSION}.{tokens.PYTHON}.{run.reference}.{run.seed}"
    body = _part(run.hash, HASH_BYTES) + _part(run.code, CODE_BYTES)
    if run.unusual != Unusual():
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        body += packer.compress(msgspec.msgpack.encode(run.unusual)) + packer.flush()
    return f"{head}.{base64.urlsafe_b64encode(_check(head, body) + body).decode().rstrip('=')}"


def decode(token: str) -> Reproduction:
    """The run that a token names. Raises TokenError, which says what does not fit."""
    token = token.strip()
    version, _, rest = token.partition(".")
    if version == tokens.VERSION:
        raise TokenError(
            f"{token!r} names a run of a program, not of a scenario: Simulation.run(main, token=…) repeats it"
        )
    python, _, rest = rest.partition(".")
    if not (_VERSION.fullmatch(version) and python.isdecimal() and rest.count(".") >= 2):
        raise TokenError(f"{token!r} is not a reproduction token; one looks like {_EXAMPLE}")
    if version != VERSION:
        raise TokenError(f"this token is of version {version}, and only {VERSION} can be repeated here: {token!r}")
    if python != tokens.PYTHON:
        raise TokenError(
            f"this token is of Python {_dotted(python)}, whose asyncio schedules differently; this is "
            f"{_dotted(tokens.PYTHON)}: run duress with that Python to repeat it"
        )
    head, _, content = token.rpartition(".")
    try:
        return _read(head, rest.rsplit(".", 2)[:2], content)
    except (ValueError, binascii.Error, zlib.error, msgspec.MsgspecError) as error:
        raise TokenError(f"this token is damaged, perhaps cut off while it was copied: {token!r}") from error


def major_of(postgres: str) -> int:
    """The major version in "18.6" or "19beta1"."""
    found = re.match("[0-9]+", postgres)
    if found is None:
        raise ValueError(f"{postgres!r} is no version of PostgreSQL")
    return int(found[0])


def _read(head: str, named: Sequence[str], content: str) -> Reproduction:
    raw = base64.b64decode(content + "=" * (-len(content) % 4), altchars=b"-_", validate=True)
    check, body = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
    if len(raw) < _FIXED or check != _check(head, body):
        raise ValueError("the check sum is another one")
    packed = body[HASH_BYTES + CODE_BYTES :]
    return Reproduction(
        reference=named[0],
        seed=int(named[1]),
        unusual=msgspec.msgpack.decode(zlib.decompress(packed, -15), type=Unusual) if packed else Unusual(),
        hash=_hex(body[:HASH_BYTES]),
        code=_hex(body[HASH_BYTES : HASH_BYTES + CODE_BYTES]),
    )


def _check(head: str, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(head.encode())).to_bytes(_CHECK_BYTES, "big")


def _part(digest: str | None, size: int) -> bytes:
    return bytes(size) if digest is None else bytes.fromhex(digest)[:size]


def _hex(part: bytes) -> str | None:
    return part.hex() if any(part) else None


def _dotted(python: str) -> str:
    return f"{python[:1]}.{python[1:]}"
