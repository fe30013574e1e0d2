"""Whatever a workflow does, a run that is interrupted anywhere and replayed ends as one that is not."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from duress.engine import Engine, race, sleep, step, transaction, workflow
from duress.engine.errors import StepFailed
from duress.engine.observer import Facts
from duress.faults.postgres import Server


class Leaf(msgspec.Struct, frozen=True):
    """A step with this value, or one that fails with it."""

    kind: Literal["step", "plain", "transaction", "fails", "sleep", "pause"]
    value: int = 0


class Group(msgspec.Struct, frozen=True):
    """Children one after the other, at once, or the first to end."""

    how: Literal["sequence", "gather", "race"]
    children: list[Any]


leaves = st.builds(
    Leaf, st.sampled_from(["step", "plain", "transaction", "fails", "sleep", "pause"]), st.integers(0, 9)
)
trees: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.builds(
        Group, st.sampled_from(["sequence", "gather", "race"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@step
async def plus(value: int) -> int:
    return value + 1


@step
def plus_in_thread(value: int) -> int:
    return value + 1


@transaction
async def plus_in_sql(tx: Any, value: int) -> int:
    row = await (await tx.execute("select %s::int + 1", [value])).fetchone()
    return int(row[0])


@step
async def fails(value: int) -> int:
    raise ValueError(f"no {value}")


async def run_tree(tree: dict[str, Any]) -> Any:
    if "how" in tree:
        if tree["how"] == "sequence":
            return [await run_tree(child) for child in tree["children"]]
        coroutines = [run_tree(child) for child in tree["children"]]
        return await (asyncio.gather(*coroutines) if tree["how"] == "gather" else race(*coroutines))
    value = tree["value"]
    match tree["kind"]:
        case "step":
            return await plus(value)
        case "plain":
            return await plus_in_thread(value)
        case "transaction":
            return await plus_in_sql(value)
        case "fails":
            try:
                return await fails(value)
            except StepFailed as error:
                return str(error)
        case "sleep":
            return await sleep(0.001)
        case _:
            return await asyncio.sleep(0)


@workflow(name="replay: tree")
async def interpret(tree: dict[str, Any]) -> Any:
    return await run_tree(tree)


@dataclass
class Interrupter:
    """Takes the workflow from its owner at the k-th point, as a takeover would; the next claim replays it."""

    dsn: str
    at: int
    passed: int = 0

    def point(self, name: str, facts: Facts) -> Any:
        if "workflow" in facts and not name.startswith("client."):
            self.passed += 1
            if self.passed == self.at:
                return self._take()
        return None

    async def _take(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as conn:
            await conn.execute("set lock_timeout = '20ms'")
            # If not: a transaction of this workflow is about to commit, and nobody can take it now.
            with contextlib.suppress(psycopg.errors.LockNotAvailable):
                await conn.execute("update duress.live set owner = null, epoch = epoch + 1, ready_at = now()")


@pytest.fixture(scope="module")
def prepared(server: Server) -> Iterator[str]:
    server.create_database("replay")
    dsn = server.dsn("replay")

    async def migrate() -> None:
        async with Engine(dsn) as engine:
            await engine.migrate()

    asyncio.run(migrate())
    yield dsn
    server.drop_database("replay")


numbers = iter(range(1_000_000))


async def outcome(dsn: str, tree: Any, interrupter: Interrupter) -> Any:
    id_ = f"w{next(numbers)}"
    async with Engine(dsn, observer=interrupter) as engine:
        work = asyncio.create_task(engine.work(poll=0.02, lease=30.0))
        try:
            handle = await engine.start(id_, interpret, msgspec.to_builtins(tree))
            return await handle.result(timeout=20)
        finally:
            engine.stop()
            await work


def has_race(tree: Any) -> bool:
    return isinstance(tree, Group) and (tree.how == "race" or any(has_race(child) for child in tree.children))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(trees, st.integers(1, 25))
def test_an_interrupted_run_ends_as_one_that_is_not(prepared: str, tree: Any, at: int) -> None:
    first = asyncio.run(outcome(prepared, tree, Interrupter(prepared, at=0)))
    again = asyncio.run(outcome(prepared, tree, Interrupter(prepared, at)))
    if has_race(tree):
        return  # another run may have another winner; that it ends without NonDeterminism is what counts
    assert again == first
