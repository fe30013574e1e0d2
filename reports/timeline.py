"""A run as text, for a terminal, a pager and grep: when, who, what.

Times are virtual milliseconds. `runs` is a step of a task (with those that could have gone instead, where there were any),
`asks` and `answered` are what travels on connection #n, `*` is an engine point, and what was drawn is in brackets.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from duress.reports.trace import Names, Trace, link, on_one_line, session, step
from duress.scenarios.observed import Happening

_MS: Final = 1_000_000  # ns
_LONGEST: Final = 180  # characters of a statement
_READY: Final = 6  # names of those that could have gone instead
_STANDING: Final = {"I": "", "T": ", in a transaction", "E": ", in a failed transaction"}
_WIDTH: Final = 10  # of the second column


def timeline(trace: Trace) -> Iterator[str]:
    """Line by line."""
    yield f"{trace.scenario}, seed {trace.seed}: {trace.verdict}"
    yield from (f"  {line}" for line in trace.said)
    yield f"duress replay {trace.token}"
    yield f"hash {trace.hash}, Python {trace.python}, PostgreSQL {trace.postgres}"
    yield from (f"fault: {fault}" for fault in trace.faults)
    yield ""
    yield f"{'ms':>13}  {'who':<{_WIDTH}}  what"
    yield from lines(trace.entries)


def lines(entries: Sequence[Happening]) -> Iterator[str]:
    """The entries of a record, with remarks between them. A remark may have been made late: it goes to its moment."""
    ordered = sorted(entries, key=lambda entry: entry[0])
    teller = _Teller(Names.of(ordered))
    held: str | None = None
    for entry in ordered:
        addition = teller.addition(entry)
        if addition is not None and held is not None:
            held += addition
            continue
        said = teller.tell(entry)
        if said is None:
            continue
        if held is not None:
            yield held
        at, process = entry[0], entry[1]
        who = process or ("server" if entry[2] in {"server", "blocked"} else "-")
        held = f"{at / _MS:>13.6f}  {who:<{_WIDTH}}  {said}"
    if held is not None:
        yield held


class _Teller:
    """Words for entries, in their order."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._asked: dict[int, int] = {}  # connection → when it was asked what is not answered
        self._standing: dict[int, int] = {}  # session → since when it is held or waits
        self._last = ""

    def addition(self, entry: Happening) -> str | None:
        """What belongs to the line before it: the latency of what was sent, and whom a session waits for."""
        _, _, kind, text, choice = entry
        if kind == "choice" and text.startswith("network: latency of ") and self._last in {"send", "answer"}:
            self._last = kind
            return f"  [latency {choice / int(text.rpartition(' ')[2]):.3f}]"
        if kind == "blocked" and self._last == "server":
            return ", for " + ", ".join(self._names.session(int(number)) for number in _blockers(text))
        return None

    def tell(self, entry: Happening) -> str | None:
        """One line without time and name; None: nothing to say."""
        at, _, kind, text, choice = entry
        said: str | None
        match kind:
            case "step":
                said = self._step(text)
            case "choice":
                stream, _, rest = text.partition(": ")
                what, _, bound = rest.rpartition(" of ")
                said = f"[{stream}: {what} {choice} of {bound}]"
            case "send":
                number, rest = link(text)
                self._asked.setdefault(number, at)
                said = f"asks #{number}  {on_one_line(rest, _LONGEST)}"
            case "answer":
                said = self._answer(at, text)
            case "server":
                said = self._server(at, text)
            case "point":
                said = f"* {text}"
            case "fault":
                said = f"FAULT {text}"
            case "session":
                said = None
            case _:
                said = text
        if said is not None:
            self._last = kind
        return said

    def _step(self, text: str) -> str | None:
        taken = step(text)
        others = [self._names.chain(number) for number in taken.ready if number != taken.number]
        if not others and taken.chain.startswith(("network#", "session ")):
            return None  # what arrives, and what a session does, says so itself
        more = f" and {len(others) - _READY} more" if len(others) > _READY else ""
        return f"runs {taken.chain}" + (f"  [before {', '.join(others[:_READY])}{more}]" if others else "")

    def _answer(self, at: int, text: str) -> str:
        number, rest = link(text)
        asked = self._asked.pop(number, None)
        after = "" if asked is None else f" after {(at - asked) / _MS:.3f} ms"
        words, _, standing = on_one_line(rest).rpartition("; ")
        if standing in _STANDING and words:
            return f"answered #{number}{after}: {words}{_STANDING[standing]}"
        return f"answered #{number}{after}: {on_one_line(rest, _LONGEST)}"

    def _server(self, at: int, text: str) -> str:
        number, rest = session(text)
        if rest.startswith(("waits", "held")):
            self._standing[number] = at
        elif number in self._standing and rest != "timer":
            rest += f" after {(at - self._standing.pop(number)) / _MS:.3f} ms"
        return f"{self._names.session(number)} {rest}" if number else rest


def _blockers(text: str) -> list[str]:
    return text.partition(" by session ")[2].split(", ")
