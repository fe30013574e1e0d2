"""A step's id is its place: the path of its task, numbered as tasks are created, and its ordinal there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from duress.engine.errors import ConfigurationError
from duress.engine.migrations import check_schema_name, lock_class, migrations
from duress.engine.scope import Scope, current_scope, enter, numbered_tasks, outside, waits_for_tasks


class Calls:
    """Stands for an execution: notes the tasks that it is told of."""

    def __init__(self) -> None:
        self.adopted: list[asyncio.Future[Any]] = []

    def adopt(self, task: asyncio.Future[Any]) -> None:
        self.adopted.append(task)


def ids(main: Callable[[Callable[[], str]], Awaitable[None]], workers: int = 1) -> list[str]:
    """The ids of the durable calls that this code would make."""
    found: list[str] = []

    def call() -> str:
        scope = current_scope()
        assert scope is not None
        found.append(scope.next_step())
        return found[-1]

    async def root() -> None:
        enter(Scope(Calls()))  # type: ignore[arg-type]
        await main(call)

    async def numbered(left: int) -> None:
        if not left:
            await asyncio.create_task(root())
            return
        with numbered_tasks(asyncio.get_running_loop()):
            await numbered(left - 1)

    asyncio.run(numbered(workers))
    return found


async def tree(call: Callable[[], str]) -> None:
    async def child(late: bool) -> None:
        if late:
            await asyncio.sleep(0)
        call()
        await asyncio.create_task(leaf())
        call()

    async def leaf() -> None:
        call()

    call()
    await asyncio.gather(child(True), child(False))
    call()
    await child(False)


def test_ids_follow_the_order_of_creation_not_of_arrival() -> None:
    assert ids(tree) == ["1", "2/1", "1/1", "2/1/1", "1/1/1", "2/2", "1/2", "2", "3", "3/1", "4"]


def test_ids_do_not_depend_on_how_many_workers_share_the_loop() -> None:
    assert ids(tree, workers=3) == ids(tree, workers=1)


def test_a_worker_that_ends_leaves_the_numbering_to_the_others() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        first, second = numbered_tasks(loop), numbered_tasks(loop)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert loop.get_task_factory() is not before
        second.__exit__(None, None, None)
        assert loop.get_task_factory() is before

    asyncio.run(main())


def test_the_loops_own_task_factory_goes_on_working() -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
        made.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def leaf() -> str | None:
        scope = current_scope()
        return scope.path if scope else None

    async def main() -> str | None:
        asyncio.get_running_loop().set_task_factory(factory)
        with numbered_tasks(asyncio.get_running_loop()):
            enter(Scope(Calls()))  # type: ignore[arg-type]
            return await asyncio.create_task(leaf())

    assert asyncio.run(main()) == "1/"
    assert "leaf" in made


def test_what_the_engine_or_a_body_starts_is_not_the_workflows() -> None:
    async def main() -> None:
        execution = Calls()
        with numbered_tasks(asyncio.get_running_loop()):
            enter(Scope(execution))  # type: ignore[arg-type]
            with outside():
                await asyncio.create_task(asyncio.sleep(0))
            assert not execution.adopted
            await asyncio.create_task(asyncio.sleep(0))
            assert len(execution.adopted) == 1

    asyncio.run(main())


@pytest.mark.parametrize("how", ["gather", "task", "group", "wait"])
def test_a_task_that_waits_for_others_is_known(how: str) -> None:
    async def main() -> None:
        forever = asyncio.create_task(asyncio.Event().wait())

        async def waits() -> None:
            if how == "gather":
                await asyncio.gather(forever)
            elif how == "task":
                await forever
            elif how == "wait":
                await asyncio.wait([forever])
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.Event().wait())

        task = asyncio.create_task(waits())
        await asyncio.sleep(0.01)
        assert waits_for_tasks(task)
        task.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("plain", [lambda: asyncio.sleep(9), lambda: asyncio.Event().wait()])
def test_a_task_that_does_something_of_its_own_is_not_cut_short(plain: Callable[[], Awaitable[Any]]) -> None:
    async def main() -> None:
        async def works() -> None:
            await plain()

        task = asyncio.create_task(works())
        assert not waits_for_tasks(task)
        await asyncio.sleep(0.01)
        assert not waits_for_tasks(task)
        task.cancel()

    asyncio.run(main())


def test_migrations_are_numbered_without_gaps_and_leave_no_placeholder() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))
    for migration in migrations():
        text = migration.render("other")
        assert "{schema}" not in text and "{lock_class}" not in text
        assert "duress." not in text.replace("'duress: ", "")


@pytest.mark.parametrize("name", ["", "Duress", "a-b", "1a", 'a"b', "a.b", "x" * 60, "ü"])
def test_schema_names_that_would_need_quotes_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="schema name"):
        check_schema_name(name)


def test_schemas_do_not_share_their_locks() -> None:
    assert lock_class("duress") != lock_class("other")
    assert 0 <= lock_class("duress") < 2**31 - 1  # the class beside it is used too
