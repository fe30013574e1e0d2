"""A run as a Chrome trace, for ui.perfetto.dev and chrome://tracing: virtual time, a track for each connection and session.

Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (JSON object format). Times are µs.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from duress.reports.trace import KEY, Names, Trace, link, on_one_line, session
from duress.scenarios.observed import Happening
from duress.scenarios.result import Span

Event = dict[str, Any]

_RUN: Final = 1  # the number of the first process: faults, and what belongs to none
_SERVER: Final = 2
_FIRST: Final = 10
_ENGINE: Final = 0  # the track of a process for its engine points
_LONGEST: Final = 80  # characters of a span's name
_WORKLOAD: Final = "workload.began"
_FAULTS: Final = ("fault.effect", "fault.healed")
_SHOWN: Final = {"owns": "workflows", "step": "steps", "paused": "paused"}  # spans of the engine → category


def perfetto(trace: Trace, spans: Iterable[Span] = ()) -> bytes:
    """The JSON document. `spans` are those of the run's result."""
    writer = _Writer(trace)
    for entry in sorted(trace.entries, key=lambda entry: entry[0]):
        writer.take(entry)
    writer.finish()
    writer.engine(spans)
    document = {
        "traceEvents": writer.metadata() + sorted(writer.events, key=lambda event: event["ts"]),
        "displayTimeUnit": "ms",
        "otherData": {"scenario": trace.scenario, "seed": trace.seed, "verdict": trace.verdict, "token": trace.token},
        KEY: trace,
    }
    return msgspec.json.encode(document) + b"\n"


class _Writer:
    """Turns entries into events."""

    def __init__(self, trace: Trace) -> None:
        self.events: list[Event] = []
        self._names = Names.of(trace.entries)
        self._processes: dict[str, int] = {}
        self._threads: dict[tuple[int, int], str] = {}
        self._asked: dict[tuple[int, int], tuple[int, list[str]]] = {}  # track → since when, what
        self._standing: dict[int, tuple[int, str, dict[str, Any]]] = {}  # session → since when, what it waits for
        self._lives: dict[int, int] = {}  # session → since when
        self._workload = 0
        self._end = max((entry[0] for entry in trace.entries), default=0)

    def take(self, entry: Happening) -> None:
        at, process, kind, text, _ = entry
        match kind:
            case "send":
                number, rest = link(text)
                self._asked.setdefault(self._track(process, number), (at, []))[1].append(on_one_line(rest))
            case "answer":
                number, rest = link(text)
                self._answered(self._track(process, number), at, on_one_line(rest))
            case "session":
                self._lives[int(text.rpartition(" ")[2])] = at
            case "server":
                self._server(at, *session(text))
            case "blocked":
                number = session(text)[0]
                if number in self._standing:
                    by = [self._names.session(int(one)) for one in text.partition(" by session ")[2].split(", ")]
                    self._standing[number][2]["held by"] = ", ".join(by)
            case "fault":
                self._instant(at, (_RUN, 0), f"fault: {process} {text}" if process else f"fault: {text}", scope="g")
            case "point":
                self._point(at, process, text)
            case "process":
                self._instant(at, (self._process(process), _ENGINE), text, scope="p")

    def _point(self, at: int, process: str, text: str) -> None:
        name = text.partition(" ")[0]
        if name == _WORKLOAD:
            self._workload = at
        if name in _FAULTS:
            kind = re.search(r"kind=(\S+)", text)
            self._instant(at, (_RUN, 0), f"{kind and kind[1]} {name.partition('.')[2]}", scope="g", told=text)
        else:
            self._instant(at, (self._process(process), _ENGINE), name, scope="t", told=text)

    def _server(self, at: int, number: int, what: str) -> None:
        if not number:
            return
        if what.startswith(("waits", "held")):
            self._standing[number] = (at, what, {})
        elif what == "timer":
            self._instant(at, (_SERVER, number), what, scope="t")
        else:
            self._goes_on(number, at)
        if what == "is gone":
            self._gone(number, at)

    def _goes_on(self, number: int, at: int) -> None:
        if number in self._standing:
            since, what, told = self._standing.pop(number)
            self._span(since, at, (_SERVER, number), what, told)

    def _gone(self, number: int, at: int) -> None:
        if number in self._lives:
            self._span(self._lives.pop(number), at, (_SERVER, number), self._names.session(number), {})

    def _answered(self, track: tuple[int, int], at: int, answer: str) -> None:
        if track in self._asked:
            since, asked = self._asked.pop(track)
            self._span(since, at, track, asked[0] or "…", {"asked": asked, "answer": answer})
        else:
            self._instant(at, track, answer, scope="t")

    def finish(self) -> None:
        """What has not ended when the run does."""
        for number in list(self._standing):
            self._goes_on(number, self._end)
        for number in list(self._lives):
            self._gone(number, self._end)
        for track in list(self._asked):
            self._answered(track, self._end, "none")

    def engine(self, spans: Iterable[Span]) -> None:
        """Stretches of the workers' lives. They overlap, so each has a track by its name."""
        for number, span in enumerate(spans):
            if span.what not in _SHOWN:
                continue
            common = {
                "name": span.label or span.what,
                "cat": _SHOWN[span.what],
                "id": str(number),
                "pid": self._process(f"worker-{span.worker}"),
                "tid": _ENGINE,
            }
            begins, ends = (self._workload / 1e3 + moment * 1e6 for moment in (span.start, span.end))
            told = {} if span.epoch is None else {"epoch": span.epoch}
            self.events.append({**common, "ph": "b", "ts": max(0.0, begins), "args": told})
            self.events.append({**common, "ph": "e", "ts": max(0.0, ends)})

    def metadata(self) -> list[Event]:
        """The names of all tracks."""
        names = {"run": _RUN, "PostgreSQL": _SERVER, **self._processes}
        found: list[Event] = [
            {"name": "process_name", "ph": "M", "ts": 0, "pid": number, "tid": 0, "args": {"name": name}}
            for name, number in names.items()
        ]
        for (process, thread), name in sorted(self._threads.items()):
            told = {"name": "thread_name", "ph": "M", "ts": 0, "pid": process, "tid": thread, "args": {"name": name}}
            found.append(told)
        return found

    def _process(self, name: str) -> int:
        return self._processes.setdefault(name, _FIRST + len(self._processes)) if name else _RUN

    def _track(self, process: str, number: int) -> tuple[int, int]:
        return self._process(process), number

    def _span(self, since: int, until: int, track: tuple[int, int], name: str, told: dict[str, Any]) -> None:
        span = {"name": name[:_LONGEST], "ph": "X", "ts": since / 1e3, "dur": (until - since) / 1e3}
        self.events.append({**span, **self._on(track), "args": told})

    def _instant(self, at: int, track: tuple[int, int], name: str, *, scope: str, told: str = "") -> None:
        instant = {"name": name[:_LONGEST], "ph": "i", "s": scope, "ts": at / 1e3, **self._on(track)}
        self.events.append({**instant, "args": {"told": told} if told else {}})

    def _on(self, track: tuple[int, int]) -> Event:
        process, thread = track
        if process == _SERVER:
            name = self._names.session(thread)
        else:
            name = f"connection #{thread}" if thread else "engine" if process != _RUN else "faults"
        self._threads.setdefault(track, name)
        return {"pid": process, "tid": thread}
