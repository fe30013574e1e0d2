"""Exceptions on their way through the database: a step fails the same way when it happens and at every replay."""

from typing import Any, TypeVar

import msgspec

from .codec import Values
from .errors import DefinitionError, DuressError, StepFailed

E = TypeVar("E", bound=type[Exception])

_registered: dict[str, type[Exception]] = {}


class Failure(msgspec.Struct, frozen=True):
    """A recorded exception; `args` only for registered classes."""

    type: str
    message: str
    args: list[Any] | None = None


def durable_error(cls: E) -> E:
    """Class decorator: a step that raises this exception raises it, not StepFailed, in its workflow and in replays.

    Its `args` must be JSON and enough to construct it again.
    """
    other = _registered.setdefault(cls.__qualname__, cls)
    if other is not cls and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise DefinitionError(
            f"two durable errors are named {cls.__qualname__!r}, in {other.__module__} and {cls.__module__}"
        )
    _registered[cls.__qualname__] = cls
    return cls


def record(error: BaseException, values: Values) -> str:
    """The stored form of an exception."""
    name = type(error).__qualname__
    if isinstance(error, StepFailed):
        failure = Failure(error.type, error.message)
    elif _registered.get(name) is type(error):
        failure = Failure(name, _message(error), list(error.args))
    else:
        failure = Failure(name, _message(error))
    try:
        return values.encode(failure, "failure")
    except DuressError:
        # Arguments that are no JSON, or a message that is no Unicode.
        return values.encode(Failure(name, ascii(failure.message)), "failure")


def restore(text: str, values: Values) -> Exception:
    """The exception to raise for a stored failure."""
    failure = read(text, values)
    cls = _registered.get(failure.type)
    if cls is not None and failure.args is not None:
        try:
            return cls(*failure.args)
        except TypeError:  # its `args` are not those of its constructor
            pass
    return StepFailed(failure.type, failure.message)


def read(text: str, values: Values) -> Failure:
    """The stored failure itself."""
    failure: Failure = values.decode(text, Failure, "failure")
    return failure


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"(its message could not be made: {type(broken).__name__})"
