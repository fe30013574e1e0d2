"""What became of a workflow can be read afterwards: owners, epochs and checkpoints in the order of time."""

import asyncio
import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from engine_room import opened, session, working

from duress.cli.engine import command
from duress.engine import Details, Recorded, Summary, current, sleep, step, transaction, workflow

SHORT = {"lease": 0.5, "heartbeat": 0.2, "poll": 0.1}
_reached: dict[str, asyncio.Event] = {}


@transaction
async def reserve(tx: Any) -> str:
    return "SECRET"


@step
async def refuse() -> None:
    raise LookupError("SECRET")


@step
async def hangs_at_first(workflow_id: str) -> int:
    if current().epoch == 1:
        _reached[workflow_id].set()
        await asyncio.Event().wait()
    return 1


@workflow(name="chronicle: order")
async def order(id_: str) -> None:
    await reserve()
    with contextlib.suppress(Exception):
        await refuse()
    await sleep(0.01)
    await hangs_at_first(id_)
    await asyncio.gather(reserve(), reserve())


@workflow(name="chronicle: sleeper")
async def sleeper() -> None:
    await sleep(3600)


async def die_over(dsn: str, id_: str) -> None:
    """Run an order whose first owner dies at its fourth step."""
    _reached[id_] = asyncio.Event()
    async with opened(dsn) as client:
        handle = await client.start(id_, order, id_)
        async with opened(dsn) as victim:
            work = asyncio.create_task(victim.work(name="w1", **SHORT))
            await _reached[id_].wait()
            work.cancel()
            await asyncio.wait({work})
        async with opened(dsn) as heir, working(heir, name="w2", **SHORT):
            await handle.result()


def test_owners_epochs_and_checkpoints_come_in_the_order_of_time(database: str) -> None:
    async def run() -> None:
        await die_over(database, "one")
        async with opened(database) as engine:
            details = await engine.show("one")
        moments = details.history
        assert [(moment.event, moment.epoch, moment.worker, moment.step) for moment in moments] == [
            ("accepted", None, None, None),
            ("owner", 1, "w1", None),
            ("checkpoint", 1, "w1", "1"),
            ("checkpoint", 1, "w1", "2"),
            ("checkpoint", 1, "w1", "3"),
            ("owner lost", None, "w1", None),
            ("owner", 2, "w2", None),
            ("checkpoint", 2, "w2", "4"),
            ("checkpoint", 2, "w2", moments[8].step),
            ("checkpoint", 2, "w2", moments[9].step),
            ("ended", 2, None, None),
        ]
        assert {moments[8].step, moments[9].step} == {"1/1", "2/1"}
        assert "step refuse: failed" in moments[3].text and "transaction reserve: ok" in moments[2].text
        assert moments[5].text == "worker w1 declared dead (by its lock)"
        assert [moment.seconds for moment in moments] == sorted(moment.seconds for moment in moments)
        assert abs(sum(moment.after for moment in moments) - moments[-1].seconds) < 1e-6
        assert "SECRET" not in repr(details)

    asyncio.run(run())


def test_one_that_waits_or_runs_says_so(database: str) -> None:
    async def run() -> None:
        async with opened(database) as engine:
            await engine.start("new", order, "new")
            pending = await engine.show("new")
            _reached["new"] = asyncio.Event()
            async with working(engine, name="w1", grace=0.1, **SHORT):
                await engine.start("asleep", sleeper)
                await _reached["new"].wait()
                running = await engine.show("new")
                async with session(database) as sql:
                    slept = "select live.owner is null from duress.live join duress.workflow using (number) where id = 'asleep'"
                    await sql.until(
                        f"{slept} and exists (select from duress.checkpoint c where c.number = live.number)"
                    )
                asleep = await engine.show("asleep")
        assert pending.history[-1].text == "pending: ready to be claimed"
        assert [moment.event for moment in running.history][-1] == "running"
        assert running.history[-1].text == "running: epoch 1, worker w1"
        assert asleep.history[-1].event == "waiting" and 3590 < asleep.history[-1].seconds < 3610

    asyncio.run(run())


def test_claims_that_recorded_nothing_are_counted() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def after(seconds: float) -> datetime:
        return begin + timedelta(seconds=seconds)

    summary = Summary("w", "n", "default", "cancelled", 7, None, 0, begin, after(9), None, None)
    records = [
        Recorded("1", "a", "step", False, 2, "w1", after(1), 2, 1, after(2), "lease"),
        Recorded("2", "b", "step", False, 5, "w2", after(4), 2, 2, None, None),
    ]
    told = [moment.text for moment in Details(summary, tuple(records)).history]
    assert told == [
        "accepted for queue default",
        "epoch 1: claimed, and nothing recorded",
        "epoch 2, worker w1",
        "1  step a: ok, 2 bytes",
        "worker w1 declared dead (by its lease)",
        "epochs 3 to 4: claimed, and nothing recorded",
        "epoch 5, worker w2, goes on behind what is recorded",
        "2  step b: ok, 2 bytes",
        "epoch 6: claimed, and nothing recorded",
        "cancelled",
    ]


def test_the_command_shows_it(database: str) -> None:
    from click.testing import CliRunner

    asyncio.run(die_over(database, "two"))
    said = CliRunner().invoke(command, ["show", "--dsn", database, "two"])
    assert said.exit_code == 0, said.output
    assert said.output.startswith("two: workflow chronicle: order, succeeded, epoch 2\naccepted 20")
    told = [re.sub(r"^ +\d+\.\d{3} +\+\d+\.\d{3} +", "", line) for line in said.output.splitlines()[4:]]
    assert told[1:4] == ["epoch 1, worker w1", "1  transaction reserve: ok, 9 bytes", told[3]]
    assert told[5:7] == ["worker w1 declared dead (by its lock)", "epoch 2, worker w2, goes on behind what is recorded"]
    assert told[-1] == "succeeded"
