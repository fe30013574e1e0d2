"""A campaign in parts: which seeds each shard runs, and the whole put together again."""

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from duress.scenarios.conclusion import conclude, gaps
from duress.scenarios.result import Campaign, Run, Violation

# What shards of one campaign agree in. The number of jobs may differ: it is the machine's, as are Python and kernel.
_SAME: Final = ("scenario", "world", "canary", "workers", "duress", "build", "postgres", "invariants", "allowed")
_OWN_SETTINGS: Final = frozenset({"jobs"})
_NAMED: Final = 5  # seeds in one message


class NotOneCampaign(ValueError):
    """Results that cannot be put together; the message says which, in what they differ, and what to do."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Every `of`-th seed, from the `index`-th on; both from 1."""

    index: int
    of: int

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From "2/3". Raises ValueError."""
        index, _, of = text.partition("/")
        if not (index.isdecimal() and of.isdecimal() and 1 <= int(index) <= int(of)):
            raise ValueError(f"{text!r} is no shard; write 2/3 for the second of three")
        return cls(int(index), int(of))

    def of_seeds(self, seeds: Sequence[int]) -> Sequence[int]:
        """This shard's part: all shards together have each seed once."""
        return seeds[self.index - 1 :: self.of]


def merge(parts: Sequence[tuple[Path, Campaign]], into: Path) -> Campaign:
    """The whole of what several folders hold, as it would be in the folder `into`. Raises NotOneCampaign."""
    (first_folder, first), *others = parts
    for folder, campaign in others:
        if differences := _differences(first, campaign):
            raise NotOneCampaign(
                f"{first_folder} and {folder} are not parts of one campaign: {'; '.join(differences)}. "
                "Put together only what was run by one build with the same options."
            )
    _refuse_twice(parts)
    campaigns = [campaign for _, campaign in parts]
    runs = [moved(run, folder, into) for folder, campaign in parts for run in campaign.runs]
    runs.sort(key=lambda run: run.seed)
    began = min(campaign.started_at for campaign in campaigns)
    wanted = [campaign.wanted for campaign in campaigns]
    whole = msgspec.structs.replace(
        first,
        started_at=began,
        seconds=max(campaign.started_at + campaign.seconds for campaign in campaigns) - began,
        python=_joined(campaign.python for campaign in campaigns),
        machine=_joined(campaign.machine for campaign in campaigns),
        not_covered=_standing(campaigns),
        wanted=None if None in wanted else sum(number or 0 for number in wanted),
        shards=tuple(sorted((shard for campaign in campaigns for shard in campaign.shards), key=_by_number)),
        corpus=tuple(dict.fromkeys(one for campaign in campaigns for one in campaign.corpus)),
        failures=tuple(failure for campaign in campaigns for failure in campaign.failures),
        divergences=tuple(
            sorted((one for campaign in campaigns for one in campaign.divergences), key=lambda one: one.seed)
        ),
    )
    return conclude(whole, runs)


def moved(run: Run, folder: Path, into: Path) -> Run:
    """`run` with the path of its plan in the lines to paste changed to where it is now."""
    if run.plan is None or folder.resolve() == into.resolve():
        return run
    plan = run.plan

    def again(line: str) -> str:
        words = shlex.split(line)
        for place, word in enumerate(words[1:], start=1):
            if words[place - 1] == "--plan" and Path(word).name == plan:
                words[place] = os.path.relpath(into / plan)
        return shlex.join(words)

    violations: tuple[Violation, ...] = tuple(
        msgspec.structs.replace(violation, reproduce=again(violation.reproduce)) for violation in run.violations
    )
    return msgspec.structs.replace(run, reproduce=again(run.reproduce), violations=violations)


def _differences(one: Campaign, other: Campaign) -> list[str]:
    found = [
        f"{name} is {_told(getattr(one, name))} here and {_told(getattr(other, name))} there"
        for name in _SAME
        if getattr(one, name) != getattr(other, name)
    ]
    names = sorted((one.settings.keys() | other.settings.keys()) - _OWN_SETTINGS)
    return found + [
        f"{name} is {_told(one.settings.get(name))} here and {_told(other.settings.get(name))} there"
        for name in names
        if one.settings.get(name) != other.settings.get(name)
    ]


def _refuse_twice(parts: Sequence[tuple[Path, Campaign]]) -> None:
    shards = Counter(shard for _, campaign in parts for shard in campaign.shards)
    of = {shard.partition("/")[2] for shard in shards}
    if len(of) > 1:
        raise NotOneCampaign(f"shards of different cuts: {', '.join(sorted(shards))}. Take all from one cut.")
    seeds = Counter(run.seed for _, campaign in parts for run in campaign.runs)
    twice = sorted(seed for seed, times in seeds.items() if times > 1)
    if twice:
        more = f" and {len(twice) - _NAMED} more" if len(twice) > _NAMED else ""
        where = [str(folder) for folder, campaign in parts if any(run.seed == twice[0] for run in campaign.runs)]
        raise NotOneCampaign(
            f"seed {', '.join(map(str, twice[:_NAMED]))}{more} was run more than once; seed {twice[0]} is in "
            f"{' and '.join(where)}. A run counted twice would make every interval too narrow: leave one folder out."
        )


def _standing(campaigns: Sequence[Campaign]) -> tuple[str, ...]:
    """What no part could cover; what only some part did not is worked out anew from the runs."""
    kept = []
    for campaign in campaigns:
        own = gaps(campaign, campaign.runs)
        kept += [gap for gap in campaign.not_covered if gap not in own]
    return tuple(dict.fromkeys(kept))


def _by_number(shard: str) -> int:
    return int(shard.partition("/")[0])


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _told(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)
