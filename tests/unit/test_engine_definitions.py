"""What is defined wrongly says so where it is defined; what is defined well is still the plain function."""

import asyncio
from typing import Any

import pytest

from duress.engine import Registry, WorkerOptions, current, durable_error, race, sleep, step, transaction, workflow
from duress.engine.codec import Values
from duress.engine.definitions import StepDefinition, WorkflowDefinition
from duress.engine.errors import ConfigurationError, DefinitionError, NotInWorkflow, ValueNotSerializable


def definition(function: Any, name: str | None = None) -> WorkflowDefinition[..., Any]:
    return WorkflowDefinition(function, name)


def test_two_workflows_of_one_name_are_an_error() -> None:
    async def one() -> None: ...
    async def other() -> None: ...

    registry = Registry()
    registry.add(definition(one, "same"))
    with pytest.raises(DefinitionError, match=r"two workflows are named 'same'.*@workflow\(name=…\)"):
        registry.add(definition(other, "same"))
    assert registry.names() == ["same"]


def test_the_same_code_loaded_again_is_no_second_workflow() -> None:
    def load() -> Any:
        async def pay() -> None: ...

        return pay

    registry = Registry()
    registry.add(definition(load()))
    registry.add(definition(load()))


def test_the_name_is_the_qualified_name_without_the_module() -> None:
    async def transfer() -> None: ...

    assert definition(transfer).name == "test_the_name_is_the_qualified_name_without_the_module.<locals>.transfer"
    assert definition(transfer, "überweisung 世界").name == "überweisung 世界"


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_a_name_that_cannot_be_stored_is_refused(name: str) -> None:
    async def function() -> None: ...

    with pytest.raises(DefinitionError, match="name"):
        definition(function, name)
    with pytest.raises(DefinitionError, match="name"):
        step(name=name)(function)


def test_a_plain_function_is_no_workflow_and_no_transaction() -> None:
    def function() -> None: ...

    with pytest.raises(DefinitionError, match="async def"):
        definition(function)
    with pytest.raises(DefinitionError, match="async def"):
        transaction(function)  # type: ignore[arg-type]


def test_annotations_that_cannot_be_read_are_an_error() -> None:
    async def function(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(DefinitionError, match="annotations of workflow"):
        definition(function)


def test_types_that_cannot_come_back_are_an_error() -> None:
    async def takes(a: int | tuple[int] | list[int]) -> None: ...
    async def returns() -> tuple[int] | list[int]: ...  # type: ignore[empty-body]

    with pytest.raises(DefinitionError, match="parameter 'a'"):
        definition(takes)
    with pytest.raises(DefinitionError, match="result"):
        step(returns)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_must_be_positive(timeout: float) -> None:
    async def function() -> None: ...

    with pytest.raises(ConfigurationError, match="timeout"):
        step(timeout=timeout)(function)


def test_arguments_come_back_as_annotated() -> None:
    async def function(a: int, *more: set[int], flag: bool = False, **rest: bytes) -> None: ...

    values, signature = Values(), definition(function).signature
    text = signature.encode(values, "f", (1, {2}, {3, 4}), {"flag": True, "x": b"y"})
    assert signature.decode(values, "f", text) == ((1, {2}, {3, 4}), {"flag": True, "x": b"y"})


def test_wrong_arguments_raise_as_a_call_would() -> None:
    async def function(a: int) -> None: ...

    values, signature = Values(), definition(function).signature
    with pytest.raises(TypeError, match="missing a required argument"):
        signature.encode(values, "f", (), {})
    with pytest.raises(ValueNotSerializable, match="parameter 'a'"):
        signature.encode(values, "f", ("one",), {})


def test_input_for_a_parameter_that_is_gone_is_named() -> None:
    async def function(a: int) -> None: ...

    with pytest.raises(ValueNotSerializable, match="parameter 'b'"):
        definition(function).signature.decode(Values(), "f", '{"a": 1, "b": 2}')


def test_outside_a_workflow_steps_are_plain_functions() -> None:
    @step
    async def doubled(x: int) -> int:
        return 2 * x

    @step
    def tripled(x: int) -> int:
        return 3 * x

    @workflow(name="test_engine_definitions: plain")
    async def both(x: int) -> int:
        return await doubled(x) + await tripled(x)

    assert asyncio.run(both(2)) == 10  # type: ignore[arg-type]


def test_durable_calls_need_a_workflow() -> None:
    @transaction
    async def move(tx: Any) -> None: ...

    async def main() -> None:
        with pytest.raises(NotInWorkflow):
            await move()
        with pytest.raises(NotInWorkflow):
            await sleep(1)
        with pytest.raises(NotInWorkflow):
            await race(asyncio.sleep(1))
        with pytest.raises(NotInWorkflow):
            current()

    asyncio.run(main())


def test_two_durable_errors_of_one_name_are_an_error() -> None:
    def declined(module: str) -> type[Exception]:
        return type("DeclinedTwice", (Exception,), {"__module__": module})

    durable_error(declined("a"))
    durable_error(declined("a"))  # the module loaded again
    with pytest.raises(DefinitionError, match="DeclinedTwice"):
        durable_error(declined("b"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lease": 1, "heartbeat": 0.6}, "heartbeat"),
        ({"concurrency": 0}, "concurrency"),
        ({"poll": 0}, "poll"),
        ({"queues": ()}, "queues"),
        ({"suspend_after": -1}, "suspend_after"),
        ({"name": ""}, "name"),
        ({"name": "a\0"}, "name"),
        ({"lease": float("nan")}, "lease"),
    ],
)
def test_worker_options_that_cannot_work_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        WorkerOptions(**options)


def test_a_step_keeps_its_functions_name_and_documentation() -> None:
    @step(name="other")
    async def charge(card: str) -> str:
        """Charge a card."""
        return card

    assert isinstance(charge, StepDefinition)
    assert charge.name == "other"
    assert charge.__doc__ == "Charge a card."
