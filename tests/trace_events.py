"""What is wrong with a Chrome trace (JSON object format), as its documentation has it: so viewers need not be forgiving."""

import json
from collections import defaultdict
from typing import Any

NEEDED = {
    "X": ("name", "ts", "dur", "pid", "tid"),
    "i": ("name", "ts", "s", "pid", "tid"),
    "b": ("name", "cat", "id", "ts", "pid", "tid"),
    "e": ("name", "cat", "id", "ts", "pid", "tid"),
    "M": ("name", "pid", "tid", "args"),
}
SLACK = 1e-6  # µs: times are binary fractions


def objections(document: bytes) -> list[str]:
    """A sentence for each; none if the trace is sound."""
    trace = json.loads(document)
    events = trace["traceEvents"]
    found = [one for event in events for one in _alone(event)]
    if found:
        return found
    return [*_named(events), *_nested(events), *_balanced(events), *_ordered(events)]


def _alone(event: dict[str, Any]) -> list[str]:
    kind = event.get("ph")
    if kind not in NEEDED:
        return [f"phase {kind!r} is not one of ours: {event}"]
    found = [f"{field} is missing: {event}" for field in NEEDED[kind] if field not in event]
    times = {field: event.get(field, 0) for field in ("ts", "dur")}
    numbers = {field: event.get(field, 0) for field in ("pid", "tid")}
    found += [
        f"{field} must be a number from 0: {event}"
        for field, value in times.items()
        if not isinstance(value, int | float) or value < 0
    ]
    found += [
        f"{field} must be a whole number: {event}" for field, value in numbers.items() if not isinstance(value, int)
    ]
    if kind == "i" and event.get("s") not in {"g", "p", "t"}:
        found.append(f"an instant is of all, a process or a thread: {event}")
    return found


def _named(events: list[dict[str, Any]]) -> list[str]:
    """Every process and every thread has one name."""
    names: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for event in events:
        if event["ph"] == "M":
            key = (event["pid"],) if event["name"] == "process_name" else (event["pid"], event["tid"])
            names[key].append(event["args"]["name"])
    used = {(event["pid"],) for event in events} | {
        (event["pid"], event["tid"]) for event in events if event["ph"] in {"X", "i"}
    }
    return [f"{key} has the names {names[key]}" for key in sorted(used, key=repr) if len(names[key]) != 1]


def _nested(events: list[dict[str, Any]]) -> list[str]:
    """Two spans of one thread lie one after the other, or one within the other."""
    threads: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append(event)
    found = []
    for spans in threads.values():
        open_until: list[float] = []
        for span in sorted(spans, key=lambda span: (span["ts"], -span["dur"])):
            while open_until and open_until[-1] <= span["ts"] + SLACK:
                open_until.pop()
            if open_until and span["ts"] + span["dur"] > open_until[-1] + SLACK:
                found.append(f"ends after the span that it lies in: {span}")
            open_until.append(span["ts"] + span["dur"])
    return found


def _balanced(events: list[dict[str, Any]]) -> list[str]:
    """Every asynchronous span begins once and then ends once."""
    seen: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["ph"] in {"b", "e"}:
            seen[event["cat"], event["id"], event["name"], event["pid"]].append(event)
    return [
        f"{key} does not begin and end once"
        for key, ones in seen.items()
        if [one["ph"] for one in ones] != ["b", "e"] or ones[0]["ts"] > ones[1]["ts"]
    ]


def _ordered(events: list[dict[str, Any]]) -> list[str]:
    times = [event["ts"] for event in events if event["ph"] != "M"]
    return [] if times == sorted(times) else ["the events are in no order of time"]
