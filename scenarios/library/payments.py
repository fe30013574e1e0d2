"""Payments: money moves between accounts, and must be conserved whatever fails.

A transfer debits (transaction), charges a gateway (plain step with an idempotency key), waits a moment, and credits
(transaction); if the gateway declines, it refunds instead. The append-only ledger carries the money in transit, so its
lines sum to zero after every commit. Some transfers are split among several payees at once, some wait long enough to be
suspended, some are started twice at the same time, and outcomes are read by several readers, soon and late.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Coroutine
from importlib import resources
from typing import Any, Final

from psycopg import AsyncConnection

from duress.engine import Retry, current, reachable, sleep, sometimes, step, transaction, workflow
from duress.engine.errors import StepFailed, WorkflowCancelled, WorkflowDead, WorkflowFailed, WorkflowNotFound
from duress.faults.contention import Contention
from duress.scenarios import rare, receiver
from duress.scenarios.rare import Rare
from duress.scenarios.receiver import Answer, Request
from duress.scenarios.spec import Scenario, World

TRANSIT: Final = "transit"
ACCOUNTS: Final = tuple(f"account-{number}" for number in range(16))
OPENING_BALANCE: Final = 1_000_000  # cents
SUSPENDING_WAIT: Final = 1.1  # seconds; a worker suspends a workflow that sleeps for a second
PATIENT: Final = Retry(attempts=8, initial=0.05, backoff=2.0, maximum=1.0, on=(OSError,))


class Suspicious(Exception):
    """The screening refused a transfer."""


@transaction
async def debit(tx: AsyncConnection[Any], account: str, cents: int) -> int:
    """Take money from an account and put it in transit; returns the new balance."""
    return await move(tx, "debit", account, -cents)


@transaction(isolation="repeatable read")
async def credit(tx: AsyncConnection[Any], account: str, cents: int) -> int:
    """Take money out of transit and give it to an account; returns the new balance."""
    return await move(tx, "credit", account, cents)


@transaction
async def refund(tx: AsyncConnection[Any], account: str, cents: int) -> int:
    """Compensate a debit; returns the new balance."""
    return await move(tx, "refund", account, cents)


@step(retry=PATIENT)
async def charge(account: str, cents: int) -> str:
    """Ask the gateway; "approved" or "declined"."""
    return (await receiver.call("charge", account=account, cents=cents)).status


@step(retry=Retry(attempts=1))
async def screen(account: str, cents: int) -> bool:
    """Refuse some transfers by an exception, which is then the step's outcome."""
    if cents % 13 == 0:
        raise Suspicious(f"screening refused {cents} cents to {account}")
    return True


@workflow
async def transfer(source: str, target: str, cents: int, wait: float) -> str:
    """Move `cents` from one account to another; returns "done" or "declined"."""
    await debit(source, cents)
    if await charge(source, cents) != "approved":
        reachable("a transfer was declined")
        await refund(source, cents)
        return "declined"
    await sleep(wait)
    await credit(target, cents)
    return "done"


@workflow
async def split(source: str, targets: list[str], cents: int) -> str:
    """Move `cents` to each of several accounts, side by side; returns "done", "declined" or "refused"."""
    total = cents * len(targets)
    await debit(source, total)
    verdict, *screened = await asyncio.gather(
        charge(source, total), *(screened_by(target, cents) for target in targets)
    )
    if verdict != "approved" or not all(screened):
        sometimes(verdict == "approved", "a split was refused by the screening")
        await refund(source, total)
        return "refused" if verdict == "approved" else "declined"
    await asyncio.gather(*(credit(target, cents) for target in targets))
    return "done"


async def screened_by(target: str, cents: int) -> bool:
    try:
        passed: bool = await screen(target, cents)
        return passed
    except StepFailed:
        return False


async def move(tx: AsyncConnection[Any], entry: str, account: str, cents: int) -> int:
    """Change a balance, and enter both sides of the movement in the ledger. Two statements."""
    me = current()
    changed = await tx.execute(
        "update account set balance = balance + %s where id = %s returning balance", (cents, account)
    )
    row = await changed.fetchone()
    if row is None:
        raise LookupError(f"{entry}: there is no account {account!r}")
    await tx.execute(
        """
        insert into ledger (account, cents, workflow, step, epoch, entry)
        select side.account, side.cents, %(workflow)s, %(step)s, %(epoch)s, %(entry)s
        from (values (%(account)s, %(cents)s::bigint), (%(transit)s, -%(cents)s::bigint)) as side (account, cents)
        """,
        {
            "workflow": me.workflow_id,
            "step": me.step_id,
            "epoch": me.epoch,
            "entry": entry,
            "account": account,
            "transit": TRANSIT,
            "cents": cents,
        },
    )
    return int(row[0])


def gateway(request: Request) -> Answer:
    """The receiver's decision: one charge in eight is declined, always the same ones."""
    return Answer("declined" if int(request.body["cents"]) % 8 == 0 else "approved")


async def setup(connection: AsyncConnection[Any]) -> None:
    """The tables, and the accounts with their opening balances."""
    await connection.execute(resources.files(__package__).joinpath("payments.sql").read_bytes())
    await connection.execute(
        "insert into account (id, balance, opening) select name, %s, %s from unnest(%s::text[]) as name",
        (OPENING_BALANCE, OPENING_BALANCE, list(ACCOUNTS)),
    )


async def workload(world: World) -> None:
    """So many lanes, each of which starts a transfer, reads its outcome, and goes on with the next.

    Once enough is started, `lasting` lanes go on for as long as there are faults to come.
    """
    base = world.random.getrandbits(64)
    wanted = world.options["transfers"]
    numbers = itertools.count()

    async def lane(lasts: bool) -> None:
        number = -1
        while world.going(started := next(numbers), wanted) and (lasts or started < wanted):
            if not world.wants(started):
                continue
            number = started
            await one_transfer(world, number, random.Random(base + number))
        if number >= 0:
            with contextlib.suppress(WorkflowNotFound):
                await outcome(world, number)  # long after it ended: it must read the same

    async with asyncio.TaskGroup() as lanes:
        for index in range(world.options["lanes"]):
            lanes.create_task(lane(lasts=index < world.options["lasting"]))


async def one_transfer(world: World, number: int, entropy: random.Random) -> None:
    """Start transfer `number`, whose every detail follows from `entropy`, and read its outcome."""
    source, *targets = entropy.sample(ACCOUNTS, 4)
    cents = entropy.randrange(100, 5000)
    wait = SUSPENDING_WAIT if entropy.random() < 0.05 else round(entropy.uniform(0.02, 0.08), 3)
    splits = entropy.random() < 0.2
    starters = 2 if entropy.random() < 0.15 else 1
    readers = 3 if entropy.random() < 0.15 else 1

    def start() -> Coroutine[Any, Any, Any]:
        if splits:
            return world.engine.start(identify(number), split, source, targets, cents)
        return world.engine.start(identify(number), transfer, source, targets[0], cents, wait)

    while True:
        await asyncio.gather(*(start() for _ in range(starters)))
        try:
            await asyncio.gather(*(outcome(world, number) for _ in range(readers)))
        except WorkflowNotFound:  # accepted, and lost in a failover, which R1 judges: whoever wants it starts it again
            continue
        return


async def outcome(world: World, number: int) -> None:
    """Read the outcome of transfer `number`; the history keeps what was read, and the checkers judge it."""
    with contextlib.suppress(WorkflowFailed, WorkflowCancelled, WorkflowDead):
        await world.engine.handle(identify(number)).result()


def identify(number: int) -> str:
    return f"transfer-{number}"


payments: Final = Scenario(
    name="payments",
    doc="transfers between accounts through a payment gateway: money is conserved, nothing happens twice",
    module=__name__,
    setup=setup,
    workload=workload,
    faults={
        "kill-worker": 4.0,
        "pause-worker": 2.0,
        "stop-worker": 1.0,
        "drop-connection": 1.0,
        "refuse-connections": 1.0,
        "partition": 2.0,
        "slow-link": 1.0,
        "cut-commit": 3.0,
        "crash-at-commit": 1.0,
        "lose-notify": 1.0,
        "terminate-backend": 2.0,
        "cancel-statement": 1.0,
        "statement-timeout": 1.0,
        "lock-timeout": 1.0,
        "deadlock": 1.0,
        "serialization-failure": 1.0,
        "idle-in-transaction-timeout": 1.0,
        "read-only": 1.0,
        "too-many-connections": 0.5,
        "crash-backend": 1.0,
        "pause-postgres": 1.0,
        "restart-postgres": 1.0,
        "kill-postmaster": 0.5,
        "failover": 0.5,
        "disk-full": 0.5,
        "fsync-fails": 0.5,
        "clock-skew": 1.0,
        "clock-jump": 1.0,
        "pooler": 0.5,
    },
    invariants=("W1", "W2", "W3", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "F1", "F2", "F3", "T1", "D1", "L1", "R1"),
    places=(
        ("step.checkpointing", "charge"),
        ("step.started", "charge"),
        ("step.committing", "debit"),
        ("step.committing", "credit"),
    ),
    options={"transfers": 80, "lanes": 28, "lasting": 28},
    simulated={"transfers": 8, "lanes": 4, "lasting": 1},
    tables={
        "account": "select id, balance, opening from account order by id",
        "ledger": """
            select line, account, cents, workflow, step, epoch, entry, xact::text::bigint as xact,
                   extract(epoch from at)::double precision as at,
                   case when current_setting('track_commit_timestamp')::boolean
                        then extract(epoch from pg_xact_commit_timestamp(xact::xid))::double precision
                   end as committed_at
            from ledger order by line
        """,
    },
    contention=Contention(
        first="lock table account in share mode",
        later="lock table ledger in share mode",
        change="update account set balance = balance",
    ),
    sometimes=(
        *rare.ENGINE,
        Rare(what="a transfer was declined", workers=1),
        Rare(what="a split was refused by the screening", workers=1),
    ),
    answer=gateway,
)
