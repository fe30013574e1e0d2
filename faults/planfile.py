"""Plans on disk: JSON that a person can read and edit, and errors that say which field to correct."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from duress.faults.plan import KINDS, PLAN_VERSION, AnyFault, AnyTrigger, Plan, PlanError, kind_of
from duress.faults.validation import did_you_mean, validate, wrong


def dumps(plan: Plan) -> str:
    """The plan as indented JSON text; equal plans give equal text, in every release that knows their version."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n"


def loads(text: str | bytes, *, workers: int | None = None, points: Collection[str] | None = None) -> Plan:
    """The plan that `dumps` wrote or a person did. Raises PlanError; `workers` and `points` are `validate`'s."""
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"not JSON: {error}") from None
    _check_version(raw)
    try:
        plan = msgspec.convert(raw, Plan)
    except msgspec.ValidationError as error:
        raise PlanError(_reword(str(error), raw)) from None
    return validate(plan, workers=workers, points=points)


def save(plan: Plan, path: Path) -> None:
    """Write `plan` to `path`, making its folder when needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(plan), encoding="utf-8")


def load(path: Path, *, workers: int | None = None, points: Collection[str] | None = None) -> Plan:
    """The plan in the file `path`. Raises PlanError, which names the file, when it cannot be read or is not a plan."""
    try:
        return loads(path.read_bytes(), workers=workers, points=points)
    except OSError as error:
        raise PlanError(f"cannot be read: {error.strerror}", source=str(path)) from None
    except PlanError as error:
        raise PlanError(*error.objections, source=str(path)) from None


def _check_version(raw: object) -> None:
    """First of all: what a later release wrote need not look like a plan to this one."""
    if isinstance(raw, dict) and raw.get("version", PLAN_VERSION) != PLAN_VERSION:
        raise PlanError(wrong("version", raw["version"], f"this duress reads version {PLAN_VERSION}"))


def _reword(message: str, raw: object) -> str:
    """msgspec says what it expected and where, but not which value it found there."""
    reason, _, place = message.partition(" - at `")
    path = place.rstrip("`").removeprefix("$").lstrip(".")
    if missing := re.fullmatch(r"Object missing required field `(.+)`", reason):
        missed = _join(path, missing[1])
        return f"{missed} is missing: {_expected(missed, raw)}"
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", reason):
        return f"{_join(path, unknown[1])} is no field of a plan: allowed here are {_fields(path, raw)}"
    value = _at(path, raw)
    if re.fullmatch(r"Invalid (enum )?value .*", reason) and (names := _names(path, raw)):
        return wrong(path, value, f"must be one of {', '.join(names)}{did_you_mean(value, names)}")
    return wrong(path or "the plan", value, reason[0].lower() + reason[1:].replace("`", ""))


_MEANING = {
    "trigger": 'when it happens, like {"at": "time", "seconds": 0.4}',
    "fault": 'what happens, like {"kind": "kill-worker"}',
    "duration": "seconds, more than 0",
    "seconds": "seconds: after the workload began, or by which a clock is wrong",
    "timeout": "seconds, 0.001 or more",
    "point": "the name of an engine point, like step.checkpointing",
}


def _names(path: str, raw: object) -> tuple[str, ...]:
    """The names that may stand at `path`, where a name must stand."""
    above, _, field = path.rpartition(".")
    if field == "kind":
        return tuple(KINDS)
    if field == "at" and above.endswith("trigger"):
        return tuple(kind_of(trigger) for trigger in AnyTrigger.__args__)
    found = _at(above, raw)
    fault = KINDS.get(found.get("kind", "")) if isinstance(found, dict) else None
    expected = get_type_hints(fault).get(field) if fault is not None else None
    return get_args(expected) if get_origin(expected) is Literal else ()


def _expected(path: str, raw: object) -> str:
    names = _names(path, raw)
    return f"one of {', '.join(names)}" if names else _MEANING.get(path.rpartition(".")[2], "it is required")


def _fields(path: str, raw: object) -> str:
    """The fields that the object at `path` may have."""
    last = path.rpartition(".")[2]
    found = _at(path, raw)
    if last in ("fault", "trigger") and isinstance(found, dict):
        tag, union = ("kind", AnyFault) if last == "fault" else ("at", AnyTrigger)
        [struct] = [one for one in union.__args__ if kind_of(one) == found.get(tag)]
        return ", ".join((tag, *struct.__struct_fields__))
    return ", ".join(("trigger", "fault", "worker") if path else ("version", "events"))


def _at(path: str, raw: Any) -> Any:
    """The value at a path like `events[0].fault`; what cannot be followed gives the last value that could."""
    for key in re.findall(r"[^.\[\]]+", path):
        try:
            raw = raw[int(key)] if isinstance(raw, list) else raw[key]
        except (KeyError, IndexError, TypeError, ValueError):
            break
    return raw


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field
