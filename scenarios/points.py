"""Engine points on their way from a worker to the harness, and the points at which a worker must stop."""

import msgspec


class Armed(msgspec.Struct, frozen=True, array_like=True):
    """A point at which the worker must stop; `step` narrows it to steps of that name."""

    point: str
    step: str | None = None

    def matches(self, point: str, step: object) -> bool:
        return self.point == point and (self.step is None or self.step == step)


class Reported(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One engine point; `at` by CLOCK_MONOTONIC, which all processes of a machine share."""

    at: float
    name: str
    facts: dict[str, str | int | float | bool | None] = {}
    held: bool = False
    wall: float | None = None  # what the worker's wall clock said then, where that can be wrong
