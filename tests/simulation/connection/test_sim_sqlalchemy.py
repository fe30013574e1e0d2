"""Promise: SQLAlchemy's async psycopg dialect runs in the simulator as it is: its pool, its sessions, its row locks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sim_programs import Simulate
from sqlalchemy import exc, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from duress.simulator import DSN, Run

URL = DSN.replace("postgresql://", "postgresql+psycopg://")
PAYERS = 6


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]


@asynccontextmanager
async def sessions() -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    engine = create_async_engine(URL, pool_size=3, max_overflow=0)  # so few that some wait for the pool
    try:
        yield async_sessionmaker(engine)
    finally:
        await engine.dispose()


async def pay(session: async_sessionmaker[AsyncSession], cents: int, *, lock: bool) -> None:
    async with session() as work, work.begin():
        account = await work.get_one(Account, 1, with_for_update=lock)
        account.cents += cents


async def paid(lock: bool) -> int:
    async with sessions() as session:
        await asyncio.gather(*(pay(session, 1, lock=lock) for _ in range(PAYERS)))
        async with session() as work:
            return (await work.execute(select(Account.cents).where(Account.id == 1))).scalar_one() - 100


def test_payers_that_lock_lose_nothing_and_a_seed_is_one_run(simulate: Simulate) -> None:
    async def main(run: Run) -> int:
        return await paid(lock=True)

    simulation = simulate()
    outcomes = [simulation.check_twice(main, seed=seed) for seed in range(4)]
    assert [outcome.result for outcome in outcomes] == [PAYERS] * 4
    assert min(outcome.counts.lock_waits for outcome in outcomes) > 0
    assert len({outcome.hash for outcome in outcomes}) == 4, "seeds differ in nothing"


def test_payers_that_do_not_lock_are_found_out(simulate: Simulate) -> None:
    async def main(run: Run) -> None:
        assert await paid(lock=False) == PAYERS

    failure = simulate().find(main, range(50))
    assert failure is not None and isinstance(failure.error, AssertionError)


def test_a_connection_that_is_lost_is_an_error_of_sqlalchemys_and_its_pool_recovers(simulate: Simulate) -> None:
    async def main(run: Run) -> int:
        async with sessions() as session:
            async with session() as work:
                await work.execute(text("update account set cents = 0"))
                assert run.server.terminate("main", in_transaction=True) is not None
                with pytest.raises(exc.DBAPIError) as caught:
                    await work.execute(text("select 1"))
                assert caught.value.connection_invalidated
            async with session() as work:
                return (await work.execute(select(Account.cents).where(Account.id == 1))).scalar_one()

    assert simulate().check_twice(main, seed=1).result == 100
