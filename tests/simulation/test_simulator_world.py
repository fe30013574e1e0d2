"""Inside a run, time and randomness are virtual and seeded however a program came by them; outside all is as before."""

import asyncio
import datetime as dt
import os
import random
import secrets
import sys
import tempfile
import threading
import time
import types
import uuid
from typing import Any

import held_by_value as held
import oracle
import pytest
from stage import play

from duress.simulator.clock import EPOCH_NS
from duress.simulator.errors import SimulationError
from duress.simulator.inside import REAL, outside
from duress.simulator.loop import SimLoop
from duress.simulator.world import simulated

EPOCH = EPOCH_NS // 10**9
AT = dt.datetime(2030, 3, 17, 17, 46, 40, tzinfo=dt.UTC)
FUNCTIONS = (time.time, time.sleep, os.urandom, random.random, dt.datetime.now, uuid.uuid4, asyncio.all_tasks)


def clocks() -> dict[str, Any]:
    return {
        "time": time.time(),
        "time_ns": time.time_ns() / 1e9,
        "by value": held.time(),
        "by value, ns": held.time_ns() / 1e9,
        "clock_gettime": time.clock_gettime(time.CLOCK_REALTIME),
        "clock_gettime_ns": time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e9,
        "datetime.now": held.datetime.now(dt.UTC).timestamp(),
        "naive datetime.now": held.datetime.now().timestamp(),
        "datetime.utcnow": held.datetime.utcnow().replace(tzinfo=dt.UTC).timestamp(),
        "datetime.today": held.datetime.today().timestamp(),
        "in a class": held.Clock.moment.now(dt.UTC).timestamp(),
        "gmtime": time.mktime(time.localtime()),
        "strftime": float(time.strftime("%s")),
    }


def test_every_wall_clock_shows_the_virtual_time() -> None:
    async def program(loop: SimLoop) -> None:
        assert set(clocks().values()) == {EPOCH}
        await asyncio.sleep(86400 * 100)
        assert set(clocks().values()) == {EPOCH + 86400 * 100}
        assert held.date.today() == (AT + dt.timedelta(days=100)).date()
        assert time.gmtime()[:6] == (AT + dt.timedelta(days=100)).timetuple()[:6]
        assert time.ctime() == time.asctime() == time.ctime(EPOCH + 86400 * 100)

    play(program)
    assert all(abs(shown - time.time()) < 100 for shown in clocks().values())


def test_clocks_that_count_begin_with_the_run_and_move_with_virtual_time_only() -> None:
    async def program(loop: SimLoop) -> None:
        readings = [time.monotonic, time.perf_counter, time.process_time, held.monotonic, loop.time]
        assert {read() for read in readings} == {0}
        held.sleep(1.5)
        await asyncio.sleep(0.25)
        assert {read() for read in readings} == {1.75}
        assert time.monotonic_ns() == time.perf_counter_ns() == 1_750_000_000
        with pytest.raises(ValueError, match="non-negative"):
            time.sleep(-1)  # noqa: ASYNC251

    play(program)


def test_datetime_stays_the_class_that_it_is() -> None:
    before = dt.datetime

    class Own(dt.datetime):
        pass

    async def program(loop: SimLoop) -> None:
        now = dt.datetime.now(dt.UTC)
        assert type(now) is dt.datetime is before
        assert now == AT
        assert type(Own.now(dt.UTC)) is Own
        assert dt.datetime.now(tz=dt.timezone(dt.timedelta(hours=2))).utcoffset() == dt.timedelta(hours=2)
        held.sleep(0.123456789)
        assert dt.datetime.now(dt.UTC).microsecond == 123456

    play(program)
    assert abs((dt.datetime.now(dt.UTC) - before.fromtimestamp(time.time(), dt.UTC)).total_seconds()) < 10


def test_code_that_has_run_often_sees_the_change_too() -> None:
    """The interpreter keeps what it has looked up on classes, most of all in code that runs often."""

    def now() -> float:
        return dt.datetime.now(dt.UTC).timestamp()

    def warm() -> float:
        return max(now() for _ in range(1_000))

    async def program(loop: SimLoop) -> float:
        return warm()

    for _ in range(3):
        assert abs(warm() - time.time()) < 100
        assert play(program).result == EPOCH
    assert abs(warm() - time.time()) < 100
    assert type(dt.datetime.now).__name__ == "builtin_function_or_method"


def drawn() -> list[Any]:
    with tempfile.NamedTemporaryFile() as file:
        name = file.name
    return [
        random.random(),
        random.randint(1, 10**9),
        random.choice(range(10**9)),
        held.any_number(),
        held.randint(1, 10**9),
        held.choice(range(10**9)),
        random.Random().random(),
        random.SystemRandom().random(),
        secrets.token_hex(),
        secrets.choice(range(10**9)),
        secrets.randbits(64),
        os.urandom(16),
        os.getrandom(16),
        held.urandom(16),
        uuid.uuid4(),
        held.uuid4(),
        uuid.uuid1(),
        held.uuid1(),
        name,
    ]


def test_every_source_of_randomness_is_seeded() -> None:
    async def program(loop: SimLoop) -> list[Any]:
        return [*drawn(), *drawn()]

    first, again, other = play(program, seed=1).result, play(program, seed=1).result, play(program, seed=2).result
    assert first == again
    assert len(set(first)) == len(first)
    assert not set(first) & set(other)


def test_the_modules_functions_can_be_seeded_by_the_program() -> None:
    async def program(loop: SimLoop) -> tuple[list[float], list[float]]:
        random.seed(5)
        first = [random.random() for _ in range(3)]
        state = random.getstate()
        random.random()
        random.setstate(state)
        random.seed(5)
        return first, [held.any_number() for _ in range(3)]

    first, second = play(program).result
    assert first == second == [random.Random(5).random() for _ in range(1)] + first[1:]


def test_afterwards_everything_is_as_before() -> None:
    state = random.getstate()
    before = [vars(held)[name] for name in held.__all__]
    node = uuid.getnode()
    methods = vars(random.Random)["seed"], vars(threading.Thread)["start"]

    async def program(loop: SimLoop) -> None:
        assert [vars(held)[name] for name in held.__all__] != before
        assert methods != (vars(random.Random)["seed"], vars(threading.Thread)["start"])
        random.random()
        raise ValueError("even so")

    with pytest.raises(ValueError, match="even so"):
        play(program)
    assert [vars(held)[name] for name in held.__all__] == before
    assert random.getstate() == state
    assert methods == (vars(random.Random)["seed"], vars(threading.Thread)["start"])
    assert (
        time.time,
        time.sleep,
        os.urandom,
        random.random,
        dt.datetime.now,
        uuid.uuid4,
        asyncio.all_tasks,
    ) == FUNCTIONS
    assert vars(dt.datetime)["now"].__class__.__name__ == "classmethod_descriptor"
    assert random.Random().random() != random.Random().random()
    assert uuid.getnode() == node


def test_what_a_module_takes_while_a_run_lasts_is_given_back_too() -> None:
    source = "from time import time\nfrom random import random\ndef default(clock=time):\n    return clock()\n"

    async def program(loop: SimLoop) -> types.ModuleType:
        module = types.ModuleType("imported_meanwhile")
        sys.modules["imported_meanwhile"] = module
        exec(source, vars(module))
        assert module.time() == module.default() == EPOCH
        return module

    try:
        module = play(program).result
        assert module.time is time.time
        assert module.random is random.random
        assert abs(module.default() - time.time()) < 10  # it keeps ours, which is the real one outside
        play(lambda loop: asyncio.sleep(0))
        assert module.time is time.time
    finally:
        del sys.modules["imported_meanwhile"]


def test_who_holds_a_stand_in_on_purpose_keeps_it() -> None:
    before = oracle.SimTask
    play(lambda loop: asyncio.sleep(0))
    assert oracle.SimTask is before is not asyncio.Task


def test_only_the_simulating_thread_is_inside() -> None:
    seen: list[float] = []
    asked, answered = threading.Event(), threading.Event()

    def bystander() -> None:
        asked.wait()
        seen.append(time.time())
        seen.append(random.random())
        answered.set()

    thread = threading.Thread(target=bystander)
    thread.start()

    async def program(loop: SimLoop) -> float:
        asked.set()
        answered.wait()
        return time.time()

    assert play(program).result == EPOCH
    thread.join()
    assert abs(seen[0] - time.time()) < 100


def test_the_harness_can_step_outside() -> None:
    async def program(loop: SimLoop) -> None:
        with outside():
            assert abs(time.time() - REAL.time()) < 10
            assert time.monotonic() > 0
            with pytest.raises(SimulationError, match="cannot be nested"), simulated(loop):
                pass
        assert time.time() == EPOCH
        assert REAL.time() < EPOCH

    play(program)


def test_runs_cannot_be_nested() -> None:
    async def program(loop: SimLoop) -> None:
        with pytest.raises(SimulationError, match="cannot be nested"), simulated(loop):
            pass
        assert time.time() == EPOCH

    play(program)
