"""What happened in one simulated run, entry by entry, and what its numbers stand for.

A trace is written as a Chrome trace (see perfetto.py), in which all of it is kept under the key `duress`, so that the file
can be shown by a viewer, replayed and compared.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from duress.scenarios.observed import Happening
from duress.scenarios.result import Campaign, Run

TRACE_VERSION: Final = 1
KEY: Final = "duress"
_STEP: Final = re.compile(r"(?P<chain>.*#(?P<id>\d+))(?: of (?P<ready>[\d,]+))?", re.DOTALL)
_LINK: Final = re.compile(r"#(?P<link>\d+) (?P<rest>.*)", re.DOTALL)
_SESSION: Final = re.compile(r"session (?P<number>\d+) (?P<rest>.*)", re.DOTALL)
_DIGEST: Final = re.compile(r" /[0-9a-f]{8}$")


class Trace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run. `entries` are (virtual ns, process, kind, text, choice or -1)."""

    version: int = TRACE_VERSION
    scenario: str
    seed: int
    token: str
    hash: str
    verdict: str
    said: tuple[str, ...]  # violations, or why it is inconclusive
    faults: tuple[str, ...]
    python: str
    postgres: str
    entries: tuple[Happening, ...]


class UnreadableTrace(Exception):
    """A file is not a trace that this version can read; the text says which, and why."""


def traces_of(campaign: Campaign, kept: Mapping[int, tuple[Happening, ...]], token: str) -> list[Trace]:
    """The traces of those runs of a campaign whose entries were `kept`; `token` names one in which the harness failed."""
    told = [_trace_of(campaign, run, kept[run.seed]) for run in campaign.runs if run.seed in kept]
    return told + [
        Trace(
            scenario=_name(campaign),
            seed=failure.seed,
            token=token,
            hash="",
            verdict="none",
            said=(f"the harness failed: {failure.message}",),
            faults=(),
            python=campaign.python,
            postgres=campaign.postgres,
            entries=kept[failure.seed],
        )
        for failure in campaign.failures
        if failure.seed in kept
    ]


def _trace_of(campaign: Campaign, run: Run, entries: tuple[Happening, ...]) -> Trace:
    assert run.token is not None and run.hash is not None
    planned = [f"{fault.kind} {fault.trigger}" for fault in run.faults]
    broken = [f"{violation.invariant} {violation.title}: {violation.message}" for violation in run.violations]
    return Trace(
        scenario=_name(campaign),
        seed=run.seed,
        token=run.token,
        hash=run.hash,
        verdict=run.verdict,
        said=(*broken, *run.reasons),
        faults=tuple(planned),
        python=campaign.python,
        postgres=campaign.postgres,
        entries=entries,
    )


def _name(campaign: Campaign) -> str:
    return campaign.scenario + (f" (canary {campaign.canary})" if campaign.canary else "")


def load(path: Path) -> Trace:
    """The trace in a file. Raises UnreadableTrace."""
    try:
        document: Any = msgspec.json.decode(path.read_bytes())
        kept = document[KEY]
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise UnreadableTrace(
            f"{path} is not a trace of duress ({error}); `duress replay --trace` writes one"
        ) from error
    version = kept.get("version") if isinstance(kept, dict) else None
    if version != TRACE_VERSION:
        raise UnreadableTrace(f"{path} is a trace of version {version}, and this duress reads {TRACE_VERSION}")
    try:
        return msgspec.convert(kept, Trace)
    except msgspec.ValidationError as error:
        raise UnreadableTrace(f"{path} does not hold a whole trace: {error}") from error


@dataclass(frozen=True, slots=True)
class Step:
    """A callback that ran, out of those that were ready (by the numbers of their chains; empty: no other was)."""

    chain: str
    number: int
    ready: tuple[int, ...]


def step(text: str) -> Step:
    """What the text of a `step` says."""
    found = _STEP.fullmatch(text)
    if found is None:
        return Step(text, 0, ())
    ready = found["ready"]
    return Step(found["chain"], int(found["id"]), tuple(map(int, ready.split(","))) if ready else ())


def link(text: str) -> tuple[int, str]:
    """The number of a connection, and what is said of it; 0 if it is of none."""
    found = _LINK.fullmatch(text)
    return (int(found["link"]), found["rest"]) if found else (0, text)


def session(text: str) -> tuple[int, str]:
    """The number of a session of the server, and what is said of it; 0 if it is of none."""
    found = _SESSION.fullmatch(text)
    return (int(found["number"]), found["rest"]) if found else (0, text)


def on_one_line(text: str, longest: int | None = None) -> str:
    """A statement or an answer without its digest."""
    line = " ".join(_DIGEST.sub("", text).split())
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


@dataclass(slots=True)
class Names:
    """What the numbers in a trace stand for."""

    chains: dict[int, str] = field(default_factory=dict)
    sessions: dict[int, tuple[str, int]] = field(default_factory=dict)  # → process, connection

    @classmethod
    def of(cls, entries: Iterable[Happening]) -> "Names":
        names = cls()
        for _, process, kind, text, _ in entries:
            if kind == "step":
                taken = step(text)
                names.chains[taken.number] = taken.chain
            elif kind == "session":
                number, rest = link(text)
                names.sessions[int(rest.rpartition(" ")[2])] = (process, number)
        return names

    def chain(self, number: int) -> str:
        return self.chains.get(number, f"#{number}")

    def session(self, number: int) -> str:
        process, connection = self.sessions.get(number, ("", 0))
        return f"session {number} ({process} #{connection})" if connection else f"session {number}"
