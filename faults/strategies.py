"""Plans for Hypothesis: `@given(plans())`. Hypothesis is imported when a strategy is built, not with this module."""

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from duress.faults.bounds import Bounds, admitted
from duress.faults.plan import KINDS, AnyFault, AnyTrigger, AtPoint, AtTime, Event, Plan

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
        return AtTime(seconds=max(bounds.earliest, round(bounds.horizon - milliseconds / 1000, 3)))

    def at(place: tuple[str, str | None], occurrence: int) -> AnyTrigger:
        return AtPoint(point=place[0], step=place[1], occurrence=occurrence)

    by_time = st.integers(0, int((bounds.horizon - bounds.earliest) * 1000)).map(before_the_end)
    if not bounds.places:
        return by_time
    return by_time | st.builds(at, st.sampled_from(bounds.places), st.integers(1, bounds.last_occurrence))


def _faults(bounds: Bounds) -> "SearchStrategy[AnyFault]":
    from hypothesis import strategies as st

    def up_to(limit: float, least: int = 0) -> "SearchStrategy[float]":
        return st.integers(least, max(least, int(limit * 1000))).map(lambda milliseconds: milliseconds / 1000)

    away = up_to(bounds.longest) | st.none()
    lasting = up_to(bounds.longest, least=1)
    timeout = up_to(0.5, least=1)
    off = st.integers(1, 10_000).map(lambda milliseconds: milliseconds / 1000)
    special: dict[str, dict[str, SearchStrategy[Any]]] = {
        "kill-worker": {"restart_after": away},
        "stop-worker": {"restart_after": away},
        "restart-postgres": {"down": up_to(1.0)},
        "slow-link": {"latency": up_to(1.0), "jitter": up_to(1.0), "bandwidth": st.none() | st.integers(1000, 10**6)},
        "clock-skew": {"seconds": off, "drift": st.sampled_from((0.0, 0.01, -0.1))},
        "clock-jump": {"seconds": off},
    }

    def of_kind(kind: str) -> "SearchStrategy[AnyFault]":
        fields: dict[str, SearchStrategy[Any]] = {}
        for name, expected in get_type_hints(KINDS[kind]).items():
            if name in ("duration", "timeout"):
                fields[name] = lasting if name == "duration" else timeout
            elif get_origin(expected) is Literal:
                fields[name] = st.sampled_from(get_args(expected))
        built: SearchStrategy[Any] = st.builds(KINDS[kind], **{**fields, **special.get(kind, {})})
        return built

    return st.one_of([of_kind(kind) for kind in KINDS if bounds.kinds.get(kind)])
