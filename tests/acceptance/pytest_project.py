"""A project of somebody else's that tests with duress: its files, and how its pytest is run."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from command_line import environment

LIMIT = 120.0  # seconds for one pytest

ACCOUNT = """
import duress, psycopg, pytest
from duress.simulator import DSN

SETUP = "create table account (id int primary key, cents int not null)"
DATA = "insert into account values (1, 100)"

async def deposit(cents):
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        row = await (await conn.execute("select cents from account where id = 1")).fetchone()
        await conn.execute("update account set cents = %s where id = 1", (row[0] + cents,))

async def deposit_at_once(cents):
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        await conn.execute("update account set cents = cents + %s where id = 1", (cents,))

@pytest.mark.parametrize("program", [deposit, deposit_at_once], ids=["in two", "at once"])
@duress.test(seeds=30, setup=SETUP, data=DATA)
async def test_deposits(run, program):
    for client in [run.process(f"client-{cents}", program, cents) for cents in (10, 20)]:
        await client.ended()
    async with await psycopg.AsyncConnection.connect(DSN) as conn:
        row = await (await conn.execute("select cents from account where id = 1")).fetchone()
    assert row == (130,), f"a deposit is lost: {row}"
"""

# The outside world is asked for each try anew, as if its key were of no account: S4.
ORDERS = """
import duress
from duress import step, transaction, workflow
from duress.scenarios import Scenario, receiver


@transaction
async def reserve(tx, item: str) -> int:
    cursor = await tx.execute("update stock set packets = packets - 1 where item = %s returning packets", [item])
    return (await cursor.fetchone())[0]


@step
async def ship(item: str) -> str:
    return (await receiver.call("ship", item=item)).status


@workflow
async def order(item: str) -> str:
    await reserve(item)
    return await ship(item)


async def setup(connection) -> None:
    await connection.execute("create table stock (item text primary key, packets int)")
    await connection.execute("insert into stock values ('tea', 100000)")


async def workload(world) -> None:
    number = 0
    while world.going(number, wanted=world.options["orders"]):
        handles = [await world.engine.start(f"order-{number + i}", order, "tea") for i in range(10)]
        for handle in handles:
            await handle.result()
        number += 10


orders = Scenario(
    name="orders", doc="packets of tea", module=__name__, setup=setup, workload=workload, options={"orders": 20},
    faults={"kill-worker": 2, "pause-worker": 1},
    invariants=("W1", "W2", "W3", "S1", "S2", "S4", "S5", "S6", "F1", "F2", "F3", "L1"),
)


@duress.test(orders, seeds=2)
def test_orders(runs, tmp_path):
    assert [run.seed for run in runs] == [1, 2] and tmp_path.is_dir()
    assert all(run.workflows >= 20 for run in runs)
"""


def pytest_in(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, as a user does; further keywords are environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def pasted(
    folder: Path, output: str, *, programs: Path = Path(sys.executable).parent, **more: str
) -> subprocess.CompletedProcess[str]:
    """Paste the line that a failed test ends with into a shell that finds `programs`."""
    [line] = re.findall(r"To run it again:\n(.+)", output)
    return typed(folder, line, environment(**more), programs)


def typed(
    folder: Path, line: str, env: Mapping[str, str], programs: Path = Path(sys.executable).parent
) -> subprocess.CompletedProcess[str]:
    """Type a line into a shell."""
    env = {**env, "PATH": f"{programs}{os.pathsep}{env['PATH']}"}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT, check=False
    )


def counts(said: subprocess.CompletedProcess[str], *names: str) -> dict[str, int]:
    """How many tests passed, failed, …: those of `names`, by the last line."""
    found = {what: int(number) for number, what in re.findall(r"(\d+) ([a-z]+)", said.stdout.splitlines()[-1])}
    return {name: found.get(name, 0) for name in names}
