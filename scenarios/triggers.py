"""When the events of a plan are due: counts of the points that each worker reached, over all its incarnations."""

from collections import Counter

from duress.faults.plan import AtPoint, AtStatement, AtTime, Event, Plan
from duress.scenarios.points import Armed


class Triggers:
    """The point triggers that are still to come. An event without a worker belongs to the first that gets there."""

    def __init__(self, plan: Plan) -> None:
        self.timed = [(index, event) for index, event in enumerate(plan.events) if isinstance(event.trigger, AtTime)]
        self.statements = [
            (index, event) for index, event in enumerate(plan.events) if isinstance(event.trigger, AtStatement)
        ]
        self._waiting = {index: event for index, event in enumerate(plan.events) if isinstance(event.trigger, AtPoint)}
        self._reached: Counter[tuple[int, int]] = Counter()  # (event, worker) → how often

    def armed_for(self, worker: int) -> tuple[Armed, ...]:
        """Where the worker must stop, because it might pull a trigger there."""
        places = {
            Armed(event.trigger.point, event.trigger.step)
            for event in self._waiting.values()
            if event.worker in (worker, None) and isinstance(event.trigger, AtPoint)
        }
        return tuple(sorted(places, key=lambda place: (place.point, place.step or "")))

    def reached(self, worker: int, point: str, step: object) -> list[tuple[int, Event]]:
        """Count one arrival; returns the events (index, event) that it triggers, each at most once in a run."""
        due = []
        for index, event in list(self._waiting.items()):
            trigger = event.trigger
            assert isinstance(trigger, AtPoint)
            if event.worker in (worker, None) and Armed(trigger.point, trigger.step).matches(point, step):
                self._reached[index, worker] += 1
                if self._reached[index, worker] == trigger.occurrence:
                    due.append((index, self._waiting.pop(index)))
        return due

    def pulls(self, worker: int, point: str, step: object) -> bool:
        """Whether this arrival pulls a trigger, for `reached` to say which. One that pulls none is counted here."""
        matching = [
            (index, event.trigger.occurrence)
            for index, event in self._waiting.items()
            if isinstance(event.trigger, AtPoint)
            and event.worker in (worker, None)
            and Armed(event.trigger.point, event.trigger.step).matches(point, step)
        ]
        if any(self._reached[index, worker] + 1 == occurrence for index, occurrence in matching):
            return True
        for index, _ in matching:
            self._reached[index, worker] += 1
        return False

    def again(self, index: int, event: Event, worker: int) -> None:
        """An event that found nothing to strike waits for its worker's next arrival at that place."""
        assert isinstance(event.trigger, AtPoint)
        self._waiting[index] = event
        self._reached[index, worker] = event.trigger.occurrence - 1
