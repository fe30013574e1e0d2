"""Runs that failed, kept as small files: to be replayed first from then on, here and by whoever has the folder.

One file holds one run: DIRECTORY/SCENARIO/INVARIANT-HASH.json. A run that is found again has the same name, so it is kept
once. The files are made to lie in a repository.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from duress.scenarios.result import Campaign, Violation
from duress.scenarios.sim import token

VERSION: Final = 1


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run."""

    version: int = VERSION
    scenario: str
    canary: str | None = None  # of a variant that is broken on purpose: it is no failure of the others
    invariant: str
    message: str
    token: str
    shrunk: bool
    duress: str  # the version that found it


class Unreadable(Exception):
    """A file of the corpus that cannot be used; the message says why, and names it."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The kept runs of one folder."""

    folder: Path

    def of(self, scenario: str, canary: str | None) -> Iterator[tuple[Path, "Kept | Unreadable"]]:
        """The runs of a scenario, or of a canary of it, by the names of their files; each that cannot be read says so."""
        for path in sorted((self.folder / _name(scenario)).glob("*.json")):
            try:
                kept = read(path)
            except Unreadable as error:
                yield path, error
                continue
            if kept.scenario == scenario and kept.canary == canary:
                yield path, kept

    def keep(self, campaign: Campaign) -> list[Path]:
        """Keep the first run of each invariant that the campaign saw broken, the small one if there is one; the new files."""
        seen: set[str] = set()
        new = []
        for run in campaign.runs:
            for violation in run.violations:
                word = run.token if violation.shrunk is None else violation.shrunk.token
                if violation.invariant in seen or word is None:
                    continue
                seen.add(violation.invariant)
                path = self._save(_kept(campaign, violation, word))
                new += [] if path is None else [path]
        return new

    def _save(self, kept: Kept) -> Path | None:
        """None: it is there already."""
        path = self.folder / _name(kept.scenario) / f"{kept.invariant}-{_digest(kept)}.json"
        if path.exists():
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
        return path


def read(path: Path) -> Kept:
    """The run in a file. Raises Unreadable."""
    try:
        raw = msgspec.json.decode(path.read_bytes())
        version = raw.get("version") if isinstance(raw, dict) else None
        if version != VERSION:
            raise Unreadable(f"{path}: a kept run of version {version!r}, and this duress reads version {VERSION}")
        return msgspec.convert(raw, Kept)
    except (OSError, msgspec.MsgspecError) as error:
        raise Unreadable(f"{path} is no kept run: {error}") from error


def _kept(campaign: Campaign, violation: Violation, word: str) -> Kept:
    shrunk = violation.shrunk
    return Kept(
        scenario=campaign.scenario,
        canary=campaign.canary,
        invariant=violation.invariant,
        message=violation.message if shrunk is None else shrunk.message,
        token=word,
        shrunk=shrunk is not None,
        duress=campaign.duress,
    )


def _digest(kept: Kept) -> str:
    """By the hash of the run, whatever found it."""
    run = token.decode(kept.token)
    return hashlib.sha256(f"{kept.canary} {run.hash or kept.token}".encode()).hexdigest()[:12]


def _name(scenario: str) -> str:
    """A folder's."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in scenario)
