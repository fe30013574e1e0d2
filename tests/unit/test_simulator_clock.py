"""Virtual time never goes back, and a process's own clock is wrong exactly as it was told to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duress.simulator.clock import EPOCH_NS, SECOND, Clock, LocalClock

drifts = st.floats(-0.9, 10, allow_nan=False)
moments = st.integers(0, 10**18)


def test_time_moves_forward_and_tells() -> None:
    clock, heard = Clock(), []
    clock.watch(heard.append)
    clock.move_to(5_000)
    clock.move_to(5_000)
    assert heard == [5_000]
    assert clock.unix_us == EPOCH_NS // 1000 + 5
    with pytest.raises(ValueError, match="cannot go back from 5000 ns to 4999 ns"):
        clock.move_to(4_999)


@given(drifts, moments, st.integers(0, 10**17), st.floats(-1000, 1000))
def test_a_timer_goes_at_the_first_moment_that_shows_its_time(
    drift: float, now: int, delay: int, offset: float
) -> None:
    clock = LocalClock(now, offset, drift)
    due = clock.monotonic(now) + delay
    moment = clock.when(due)
    assert moment >= now
    assert clock.monotonic(moment) >= due
    assert moment == now or clock.monotonic(moment - 1) < due


@given(drifts, drifts, moments)
def test_a_change_of_rate_keeps_what_it_shows(before: float, after: float, passed: int) -> None:
    clock = LocalClock(0, 0, before)
    shown = clock.monotonic(passed)
    clock.set_drift(passed, after)
    assert clock.monotonic(passed) == shown
    assert clock.drift == pytest.approx(after, abs=1e-9)


def test_a_jump_moves_the_wall_clock_only() -> None:
    clock = LocalClock(0, 2.0, 0.5)
    assert clock.monotonic(10 * SECOND) == 17 * SECOND
    clock.jump(-7)
    assert clock.monotonic(10 * SECOND) == 17 * SECOND
    assert clock.wall(10 * SECOND) == EPOCH_NS + 10 * SECOND


@pytest.mark.parametrize("drift", [-1.0, -2.0, float("nan"), 1_000.0])
def test_a_clock_cannot_stand_still_or_run_backwards(drift: float) -> None:
    with pytest.raises(ValueError, match="cannot drift by"):
        LocalClock(0, 0, drift)
