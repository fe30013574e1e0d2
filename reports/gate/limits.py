"""Limits in a TOML file. What is not known is an error that names the nearest key.

[runs]
minimum = 100                     # runs that passed or failed; fewer: undecided
[invariants]
checked = ["W1", "S2"]            # that every run must have checked; a violated one always fails
[coverage]
kinds = ["kill-worker"]           # faults that must have fired
fired = 20                        # each of them, at least
[recovery.kill-worker.first]      # fault kind and phase; `all`: every kind that fired and has no limit of its own
p50 = "60 ms"                     # "60 ms", "1.5 s", or a number of seconds
p95 = "400 ms"
[progress]
longest-window = "3 s"            # without progress, while work waited
[waste]
reruns-per-fault = 4.0            # bodies that ran again, per fault that fired
[baseline]                        # how to compare with --baseline
phases = ["first", "drained"]
kinds = ["kill-worker"]           # default: all that fired
minimum-effect = 0.1              # of the baseline's median; a smaller change does not matter
minimum-seconds = "5 ms"          # nor does a change of less than that
settings-may-differ = []          # names of settings
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from duress.faults.plan import KINDS
from duress.reports.summary import PHASES, RANKED_BY
from duress.scenarios.invariants import INVARIANTS

QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
EVERY_KIND: Final = "all"
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0}


class LimitsError(ValueError):
    """A file of limits that cannot be used; the message names the file, the key, and what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a comparison looks at, and from which change on it matters."""

    phases: tuple[str, ...] = (RANKED_BY, "drained")
    kinds: tuple[str, ...] | None = None
    minimum_effect: float = 0.1
    minimum_seconds: float = 0.005
    settings_may_differ: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All limits of a gate. Durations in seconds; None: no limit."""

    minimum_runs: int = 1
    checked: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    fired: int = 1
    recovery: Mapping[str, Mapping[str, Mapping[str, float]]]  # kind → phase → "p95" → seconds
    longest_window: float | None = None
    reruns_per_fault: float | None = None
    attempts_per_fault: float | None = None
    baseline: Baseline = Baseline()


def read_limits(file: Path) -> Limits:
    """The limits in `file`. Raises LimitsError."""
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LimitsError(f"the limits in {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LimitsError(f"{file} is not TOML: {error}") from error
    return _limits(_Table(raw, str(file), ""))


def _limits(top: "_Table") -> Limits:
    top.expect("runs", "invariants", "coverage", "recovery", "progress", "waste", "baseline")
    runs = top.table("runs").expect("minimum")
    invariants = top.table("invariants").expect("checked")
    coverage = top.table("coverage").expect("kinds", "fired")
    progress = top.table("progress").expect("longest-window")
    waste = top.table("waste").expect("reruns-per-fault", "attempts-without-checkpoint-per-fault")
    return Limits(
        minimum_runs=runs.whole("minimum", 1),
        checked=invariants.names("checked", INVARIANTS) or (),
        kinds=coverage.names("kinds", KINDS) or (),
        fired=coverage.whole("fired", 1),
        recovery=_recovery(top.table("recovery")),
        longest_window=progress.seconds("longest-window"),
        reruns_per_fault=waste.number("reruns-per-fault"),
        attempts_per_fault=waste.number("attempts-without-checkpoint-per-fault"),
        baseline=_baseline(top.table("baseline")),
    )


def _recovery(table: "_Table") -> dict[str, dict[str, dict[str, float]]]:
    table.expect(EVERY_KIND, *KINDS)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in table.raw:
        phases = table.table(kind).expect(*PHASES)
        for phase in phases.raw:
            limits = phases.table(phase).expect(*QUANTILES)
            found.setdefault(kind, {})[phase] = {name: limits.seconds(name) or 0.0 for name in limits.raw}
    return found


def _baseline(table: "_Table") -> Baseline:
    table.expect("phases", "kinds", "minimum-effect", "minimum-seconds", "settings-may-differ")
    usual = Baseline()
    effect, least = table.number("minimum-effect"), table.seconds("minimum-seconds")
    return Baseline(
        phases=table.names("phases", PHASES) or usual.phases,
        kinds=table.names("kinds", KINDS),
        minimum_effect=usual.minimum_effect if effect is None else effect,
        minimum_seconds=usual.minimum_seconds if least is None else least,
        settings_may_differ=table.names("settings-may-differ", None) or (),
    )


class _Table:
    """One table of the file, and where it is."""

    def __init__(self, raw: dict[str, Any], file: str, path: str) -> None:
        self.raw = raw
        self._file = file
        self._path = path

    def expect(self, *known: str) -> "_Table":
        for key in self.raw:
            if key not in known:
                raise self._wrong(key, f"is not known{_nearest(key, known) or '.'} Known are {', '.join(known)}")
        return self

    def table(self, key: str) -> "_Table":
        value = self.raw.get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, f"must be a table, [{self._at(key)}], not {value!r}")
        return _Table(value, self._file, self._at(key))

    def whole(self, key: str, default: int) -> int:
        value = self.raw.get(key, default)
        if type(value) is not int or value < 0:
            raise self._wrong(key, f"must be a whole number from 0, not {value!r}")
        return value

    def number(self, key: str) -> float | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise self._wrong(key, f"must be a number from 0, not {value!r}")
        return float(value)

    def seconds(self, key: str) -> float | None:
        value = self.raw.get(key)
        if not isinstance(value, str):
            return self.number(key)
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise self._wrong(
                key, f'must be a duration like "250 ms" or "1.5 s", or a number of seconds, not {value!r}'
            )
        return float(match[1]) * _UNITS[match[2]]

    def names(self, key: str, known: Collection[str] | None) -> tuple[str, ...] | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self._wrong(key, f"must be a list of names, not {value!r}")
        for name in value:
            if known is not None and name not in known:
                raise self._wrong(key, f"has {name!r}, which is not known{_nearest(name, known)}")
        return tuple(value)

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _wrong(self, key: str, what: str) -> LimitsError:
        return LimitsError(f"{self._file}: {self._at(key)} {what}")


def _nearest(key: str, known: Collection[str] | Sequence[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""
