"""Workflows, steps and transactions: what the decorators make of a function.

Calling a step inside a workflow makes a durable call. Outside a workflow, and inside another step's body, it is the plain
function (so that it can be tested alone); a transaction needs its workflow.
"""

import inspect
import random
import types
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, get_type_hints, overload

import msgspec

from .codec import Values, check_type, is_storable
from .errors import (
    ConfigurationError,
    DefinitionError,
    NotInWorkflow,
    ValueNotSerializable,
)
from .scope import current_scope

P = ParamSpec("P")
R = TypeVar("R")
Isolation = Literal["read committed", "repeatable read", "serializable"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and when, a failing body is tried again.

    Attempt n waits `initial * backoff ** (n - 1)` seconds, at most `maximum`, times a random factor in
    [1 - jitter, 1 + jitter]. Only exceptions of the classes in `on` are tried again.
    """

    attempts: int = 3
    initial: float = 0.1
    backoff: float = 2.0
    maximum: float = 30.0
    jitter: float = 0.25
    on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        well = (
            self.attempts >= 1
            and self.initial >= 0
            and self.backoff >= 1
            and self.maximum >= 0
            and 0 <= self.jitter <= 1
        )
        if not well:  # asked so that NaN is refused too
            raise ConfigurationError(f"{self} will not do: attempts >= 1, initial >= 0, backoff >= 1, 0 <= jitter <= 1")

    def delay(self, attempt: int, entropy: random.Random) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1)."""
        # The exponent is bounded: 2.0 ** 1024 overflows.
        plain = min(self.maximum, self.initial * self.backoff ** min(attempt - 1, 64))
        return plain * (1 + self.jitter * (2 * entropy.random() - 1))


ONCE = Retry(attempts=1)


@dataclass(frozen=True, slots=True)
class Signature:
    """The annotated types of a function, for its values' way through the database."""

    parameters: inspect.Signature
    annotations: dict[str, Any]
    returns: Any

    @classmethod
    def of(cls, function: Callable[..., Any], name: str, *, skip_first: bool = False) -> "Signature":
        parameters = list(inspect.signature(function).parameters.values())[skip_first:]
        try:
            hints = _hints(function, {parameter.name for parameter in parameters} | {"return"})
        except Exception as error:
            raise DefinitionError(f"the annotations of {name} cannot be read: {error}") from error
        annotations = {parameter.name: _parameter_type(parameter, hints) for parameter in parameters}
        returns = hints.get("return", Any)
        for what, type_ in [
            *((f"parameter {key!r}", type_) for key, type_ in annotations.items()),
            ("result", returns),
        ]:
            if problem := check_type(type_):
                raise DefinitionError(f"the {what} of {name} cannot be read back from JSON: {problem}")
        return cls(inspect.Signature(parameters), annotations, returns)

    def encode(self, values: Values, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The arguments as a JSON object by parameter; raises TypeError as a call would, or ValueNotSerializable."""
        bound = self.parameters.bind(*args, **kwargs)
        text = values.encode(bound.arguments, f"input of {name}")
        self.decode(values, name, text)  # what would not be read back must not be accepted
        return text

    def decode(self, values: Values, name: str, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments to call the function with."""
        raw: dict[str, msgspec.Raw] = values.decode(text, dict[str, msgspec.Raw], f"input of {name}")
        bound = inspect.BoundArguments(self.parameters, OrderedDict())
        for key, item in raw.items():
            if key not in self.annotations:
                raise ValueNotSerializable(f"the input of {name} has a parameter {key!r} that its code does not have")
            try:
                bound.arguments[key] = msgspec.json.decode(bytes(item), type=self.annotations[key])
            except msgspec.MsgspecError as error:
                raise ValueNotSerializable(
                    f"the input of {name} does not fit: parameter {key!r} cannot be read as {self.annotations[key]!r}: {error}"
                ) from None
        return bound.args, bound.kwargs


def _hints(function: Callable[..., Any], names: set[str]) -> dict[str, Any]:
    """The annotations of these names only: that of a transaction's connection may be importable by type checkers alone."""
    function = inspect.unwrap(function)
    wanted = {name: hint for name, hint in inspect.get_annotations(function).items() if name in names}
    return get_type_hints(types.SimpleNamespace(__annotations__=wanted), function.__globals__, include_extras=True)


def _name(function: Callable[..., Any], given: str | None) -> str:
    name = function.__qualname__ if given is None else given
    if not name or not is_storable(name):
        raise DefinitionError(f"the name {name!r} will not do: it must not be empty, nor hold NUL or lone surrogates")
    return name


def _parameter_type(parameter: inspect.Parameter, hints: dict[str, Any]) -> Any:
    type_ = hints.get(parameter.name, Any)
    if parameter.kind is parameter.VAR_POSITIONAL:
        return types.GenericAlias(tuple, (type_, ...))
    if parameter.kind is parameter.VAR_KEYWORD:
        return types.GenericAlias(dict, (str, type_))
    return type_


class WorkflowDefinition(Generic[P, R]):
    """A durable function. Start it with `engine.start(id, it, …)`; called directly it is the plain coroutine function."""

    def __init__(self, function: Callable[P, Awaitable[R]], name: str | None) -> None:
        self.function = function
        self.name = _name(function, name)
        if not inspect.iscoroutinefunction(function):
            raise DefinitionError(f"workflow {self.name} must be defined with `async def`")
        self.signature = Signature.of(function, f"workflow {self.name!r}")
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        return self.function(*args, **kwargs)


class StepDefinition(Generic[P, R]):
    """A step or a transaction: a recorded call inside a workflow."""

    def __init__(
        self,
        function: Callable[..., Any],
        kind: Literal["step", "transaction"],
        name: str | None,
        retry: Retry,
        timeout: float | None,
        isolation: Isolation = "read committed",
    ) -> None:
        self.function = function
        self.kind: Literal["step", "transaction"] = kind
        self.name = _name(function, name)
        self.retry = retry
        self.timeout = timeout
        self.isolation = isolation
        self.is_async = inspect.iscoroutinefunction(function)
        if timeout is not None and timeout <= 0:
            raise ConfigurationError(f"timeout={timeout} of step {self.name} will not do: give seconds > 0, or None")
        if kind == "transaction" and not self.is_async:
            raise DefinitionError(
                f"transaction {self.name} must be defined with `async def` and take the connection first"
            )
        self.signature = Signature.of(function, f"{kind} {self.name!r}", skip_first=kind == "transaction")
        update_wrapper(self, function)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = current_scope()
        if scope is not None:
            result: R = await scope.execution.call(scope, self, args, kwargs)
            return result
        if self.kind == "transaction":
            raise NotInWorkflow(
                f"transaction {self.name} was called outside a workflow; its connection comes from the engine"
            )
        outcome = self.function(*args, **kwargs)
        if self.is_async:
            outcome = await outcome
        plain: R = outcome
        return plain


class Registry:
    """Workflows by name."""

    def __init__(self) -> None:
        self._workflows: dict[str, WorkflowDefinition[..., Any]] = {}

    def add(self, definition: WorkflowDefinition[..., Any]) -> None:
        other = self._workflows.get(definition.name)
        if other is not None and not _same_source(other.function, definition.function):
            raise DefinitionError(
                f"two workflows are named {definition.name!r}, in {other.function.__module__} and"
                f" {definition.function.__module__}: give one of them another name, @workflow(name=…)"
            )
        self._workflows[definition.name] = definition

    def get(self, name: str) -> WorkflowDefinition[..., Any] | None:
        return self._workflows.get(name)

    def names(self) -> list[str]:
        return sorted(self._workflows)


def _same_source(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether both are one definition in one file: a module run as `__main__` and imported, or loaded again."""
    first, second = inspect.unwrap(one).__code__, inspect.unwrap(other).__code__
    return bool(first.co_filename == second.co_filename and first.co_firstlineno == second.co_firstlineno)


registry = Registry()


@overload
def workflow(function: Callable[P, Awaitable[R]], /) -> WorkflowDefinition[P, R]: ...
@overload
def workflow(*, name: str | None = None) -> Callable[[Callable[P, Awaitable[R]]], WorkflowDefinition[P, R]]: ...
def workflow(function: Any = None, /, *, name: str | None = None) -> Any:
    """Make a coroutine function a durable workflow.

    `name` (default: the function's `__qualname__`) is what the database knows it by. Between its durable calls the
    function must be deterministic. Raises DefinitionError for a second workflow of one name.
    """

    def decorate(function: Any) -> Any:
        definition: WorkflowDefinition[..., Any] = WorkflowDefinition(function, name)
        registry.add(definition)
        return definition

    return decorate if function is None else decorate(function)


@overload
def step(function: Callable[P, Awaitable[R]], /) -> StepDefinition[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> StepDefinition[P, R]: ...
@overload
def step(*, name: str | None = None, retry: Retry = ONCE, timeout: float | None = None) -> "_Steps": ...
def step(function: Any = None, /, *, name: str | None = None, retry: Retry = ONCE, timeout: float | None = None) -> Any:
    """Make a function (async, or plain: then it runs in a thread) a step: its outcome is recorded once.

    The body may run again if its worker dies before the record; `current().idempotency_key` is then the same. `timeout`
    is in seconds for each attempt. A body that fails for good raises StepFailed in the workflow, or the registered class.
    """

    def decorate(function: Any) -> Any:
        return StepDefinition(function, "step", name, retry, timeout)

    return decorate if function is None else decorate(function)


class _Steps(Protocol):
    """What `step(…)` with options returns: a decorator that keeps the types of async and of plain functions."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> StepDefinition[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> StepDefinition[P, R]: ...


@overload
def transaction(function: Callable[Concatenate[Any, P], Awaitable[R]], /) -> StepDefinition[P, R]: ...
@overload
def transaction(
    *,
    name: str | None = None,
    retry: Retry = ONCE,
    timeout: float | None = None,
    isolation: Isolation = "read committed",
) -> Callable[[Callable[Concatenate[Any, P], Awaitable[R]]], StepDefinition[P, R]]: ...
def transaction(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    retry: Retry = ONCE,
    timeout: float | None = None,
    isolation: Isolation = "read committed",
) -> Any:
    """Make an async function, whose first parameter is a psycopg AsyncConnection, a transaction step.

    Its SQL and its checkpoint commit in one PostgreSQL transaction: the effects happen exactly once. Serialization
    failures, deadlocks and lost connections run it again, in a new transaction.
    """

    def decorate(function: Any) -> Any:
        return StepDefinition(function, "transaction", name, retry, timeout, isolation)

    return decorate if function is None else decorate(function)
