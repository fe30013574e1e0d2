"""The campaign on disk: `result.json`, versioned, and its JSON schema; while it runs, the stream of its runs.

What is saved is loaded again without loss; a file of another version is refused by its number, never half understood.
"""

from pathlib import Path

import msgspec

from duress.scenarios.result import RESULT_VERSION, Campaign
from duress.scenarios.stream import STREAM_FILE, read_stream

RESULT_FILE = "result.json"
SCHEMA_FILE = "result.schema.json"


class UnreadableResult(Exception):
    """A file is not a campaign that this version can read; the text says which file, why, and what to do."""


class _Head(msgspec.Struct):
    """The two fields that every version has, so that a refusal can name them."""

    version: int
    duress: str = "unknown"


def save(campaign: Campaign, directory: Path) -> list[Path]:
    """Write `result.json` and `result.schema.json` into `directory`, each as a whole or not at all."""
    result, described = directory / RESULT_FILE, directory / SCHEMA_FILE
    _replace(result, msgspec.json.encode(campaign, order="deterministic") + b"\n")
    _replace(described, schema())
    return [result, described]


def load(path: Path) -> Campaign:
    """Read the campaign at `path`: a result file, or a folder with a `result.json` or with the stream of a campaign that
    has not ended, or was killed.

    Raises UnreadableResult if there is none, if it is not a result, or if another version wrote it.
    """
    file = path / RESULT_FILE if path.is_dir() else path
    if path.is_dir() and (path / STREAM_FILE).exists():  # removed when result.json is whole
        file = path / STREAM_FILE
    try:
        text = file.read_bytes()
        if file.name == STREAM_FILE:
            text = text.partition(b"\n")[0]
    except OSError as error:
        raise UnreadableResult(
            f"cannot read a result at {file}: {error.strerror}. Give the folder that `duress run --out` wrote."
        ) from error
    try:
        head = msgspec.json.decode(text, type=_Head)
    except msgspec.MsgspecError as error:
        raise UnreadableResult(f"{file} is not a duress result: {error}. It may have been cut short.") from error
    if head.version != RESULT_VERSION:
        raise UnreadableResult(
            f"{file} is a result of version {head.version}, written by duress {head.duress}; this duress reads version "
            f"{RESULT_VERSION}. Read it with the duress that wrote it, or run the campaign again."
        )
    try:
        return read_stream(file) if file.name == STREAM_FILE else msgspec.json.decode(text, type=Campaign)
    except msgspec.MsgspecError as error:
        raise UnreadableResult(
            f"{file} says it is a result of version {RESULT_VERSION}, but does not hold one: {error}."
        ) from error


def schema() -> bytes:
    """The JSON schema (draft 2020-12) of `result.json`, as indented JSON."""
    described = msgspec.json.schema(Campaign)
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}
    return msgspec.json.format(msgspec.json.encode(described, order="deterministic"), indent=2) + b"\n"


def _replace(file: Path, content: bytes) -> None:
    unfinished = file.with_name(file.name + ".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(file)
