"""Plans for Hypothesis: `@given(plans())`. Hypothesis is imported when a strategy is built, not with this module."""

from typing import TYPE_CHECKING

from duress.faults.bounds import EARLIEST, Bounds, admitted
from duress.faults.plan import (
    AnyFault,
    AnyTrigger,
    AtPoint,
    AtTime,
    CrashBackend,
    Event,
    KillWorker,
    PauseWorker,
    Plan,
    RestartPostgres,
    StopWorker,
    TerminateBackend,
)

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def plans(bounds: Bounds | None = None) -> "SearchStrategy[Plan]":
    """Plans within `bounds`, the empty one included.

    They shrink towards fewer events, and each event towards the first allowed kind of the catalogue, a time trigger, a
    time close to the horizon (most of the run is then without faults), the first occurrence, short durations and any
    worker.
    """
    from hypothesis import strategies as st

    bounds = bounds or Bounds()
    event = st.builds(
        Event,
        trigger=_triggers(bounds),
        fault=_faults(bounds),
        worker=st.none() | st.integers(0, bounds.workers - 1),
    )
    drawn = st.lists(event, max_size=bounds.most_events)
    return drawn.map(lambda events: Plan(events=admitted(events, bounds)))


def _triggers(bounds: Bounds) -> "SearchStrategy[AnyTrigger]":
    from hypothesis import strategies as st

    def before_the_end(milliseconds: int) -> AnyTrigger:
        return AtTime(seconds=max(EARLIEST, round(bounds.horizon - milliseconds / 1000, 3)))

    def at(place: tuple[str, str | None], occurrence: int) -> AnyTrigger:
        return AtPoint(point=place[0], step=place[1], occurrence=occurrence)

    by_time = st.integers(0, int((bounds.horizon - EARLIEST) * 1000)).map(before_the_end)
    if not bounds.places:
        return by_time
    return by_time | st.builds(at, st.sampled_from(bounds.places), st.integers(1, bounds.last_occurrence))


def _faults(bounds: Bounds) -> "SearchStrategy[AnyFault]":
    from hypothesis import strategies as st

    def up_to(limit: float, least: int = 0) -> "SearchStrategy[float]":
        return st.integers(least, max(least, int(limit * 1000))).map(lambda milliseconds: milliseconds / 1000)

    away = up_to(bounds.longest) | st.none()
    faults: dict[str, SearchStrategy[AnyFault]] = {
        "kill-worker": st.builds(KillWorker, restart_after=away),
        "pause-worker": st.builds(PauseWorker, duration=up_to(bounds.longest, least=1)),
        "stop-worker": st.builds(StopWorker, restart_after=away),
        "terminate-backend": st.builds(TerminateBackend),
        "crash-backend": st.builds(CrashBackend),
        "restart-postgres": st.builds(RestartPostgres, mode=st.sampled_from(("fast", "immediate")), down=up_to(1.0)),
    }
    return st.one_of([faults[kind] for kind in faults if bounds.kinds.get(kind)])
