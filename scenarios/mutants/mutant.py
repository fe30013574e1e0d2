"""What a mutant is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from duress.scenarios.mutation import Substitution

Grade = Literal["one fault", "two faults", "interleaving", "rare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One subtle bug of the engine, which its own tests do not find. No fault is aimed at where it shows: finding it is the
    harness's work.
    """

    name: str
    doc: str  # one line: what it does wrong
    like: str  # the bug of some other engine that it is like
    grade: Grade  # what it takes to show
    takes: str  # the same, in words
    breaks: tuple[str, ...]  # ids of invariants that may catch it, the likeliest first
    substitutions: tuple[Substitution, ...]

    faults: ClassVar[Mapping[str, float]] = {}
    places: ClassVar[tuple[tuple[str, str | None], ...]] = ()
    exception: ClassVar[str | None] = None
