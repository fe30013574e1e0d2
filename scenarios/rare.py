"""What is to happen in some run of a campaign, and when its absence is a reason to doubt the campaign.

The engine's rare branches say so by `sometimes` and `reachable` (engine/assertions.py). They are listed here, so that one
that is never reached is known too; a test compares the list with the code. A scenario whose workload can reach them all
names `ENGINE` in its own `sometimes`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from duress.scenarios.result import ENOUGH, Rare, Run


def chances(rare: Rare, runs: Iterable[Run], world: str, workers: int) -> int:
    """In how many of the runs it could have happened."""
    if world not in rare.worlds or workers < rare.workers:
        return 0
    return sum(not rare.faults or any(one.fired and one.kind in rare.faults for one in run.faults) for run in runs)


__all__ = ["ENGINE", "ENOUGH", "Rare", "counts", "missed"]

_PAUSE: Final = ("pause-worker",)
_KILL: Final = ("kill-worker",)
_STOP: Final = ("stop-worker",)
_SESSION: Final = ("terminate-backend",)
_OUTAGE: Final = ("crash-backend", "restart-postgres")

# `runs` is some ten times the mean number of runs until it happened, in 60 to 400 seeds of payments.
ENGINE: Final = (
    Rare(what="a start found its workflow there already", workers=1),
    Rare(what="a sleep had ended when its workflow was claimed", workers=1),
    Rare(what="a write of a batch had to be sent alone", workers=1),
    Rare(what="a transaction lost a race and was run again", runs=2000),
    Rare(what="a call was sent again on another connection", faults=(*_SESSION, *_OUTAGE), workers=1),
    Rare(what="a transaction lost its connection and was run again", faults=(*_SESSION, *_OUTAGE), workers=1),
    Rare(what="a worker fetched its lock again", faults=_OUTAGE, workers=1),
    Rare(what="an ambiguous COMMIT had happened", faults=(*_SESSION, *_OUTAGE), workers=1, runs=400),
    Rare(what="an ambiguous COMMIT had not happened", faults=(*_SESSION, *_OUTAGE), workers=1, runs=200),
    Rare(
        what="a checkpoint that was sent again was there already", faults=(*_SESSION, *_OUTAGE), workers=1, runs=20_000
    ),
    Rare(what="an outcome that was sent again was there already", faults=(*_SESSION, *_OUTAGE), workers=1, runs=20_000),
    Rare(what="a poll found what no notification told", workers=1),
    Rare(what="a poll found an outcome that no notification told", faults=_OUTAGE, workers=1, runs=2000),
    Rare(what="a worker was taken over by its lock", faults=_KILL),
    Rare(what="a worker was taken over by its lease", faults=_PAUSE),
    Rare(what="two workers were taken over at once", faults=_KILL, runs=400),
    Rare(what="somebody else was faster to take a neighbour over", faults=_KILL),
    Rare(what="a neighbour's lock was free while it had sessions", faults=_KILL),
    Rare(what="a worker learned that it had been declared dead", faults=_PAUSE),
    Rare(what="a claim was refused: this worker had been declared dead", faults=_PAUSE),
    Rare(what="a checkpoint was refused by the fence", faults=_PAUSE),
    Rare(what="an outcome was refused by the fence", faults=_PAUSE, runs=400),
    Rare(what="a body had to wait for the lease", faults=_PAUSE),
    Rare(what="a worker claimed anew what it was running", runs=20_000),
    Rare(what="a worker that stops waited for a body", faults=_STOP, workers=1),
    Rare(what="a worker that stops handed a workflow over", faults=_STOP, workers=1),
    Rare(what="a worker waited for the end of its namesake", faults=_KILL, workers=1, runs=2000),
)


def counts(rares: Iterable[Rare], runs: Sequence[Run]) -> dict[str, int]:
    """Text → in how many runs it came, sorted; 0 for those that never did. What nobody has listed counts too."""
    found = Counter(what for run in runs for what in run.sometimes)
    return {what: found[what] for what in sorted({*found, *(rare.what for rare in rares)})}


def missed(rares: Iterable[Rare], runs: Sequence[Run], world: str, workers: int) -> tuple[list[str], list[str]]:
    """What never happened: reasons to doubt the campaign, and texts of which it was too small to say."""
    happened = {what for run in runs for what in run.sometimes}
    reasons, open_ = [], []
    for rare in rares:
        if rare.what in happened:
            continue
        tried = chances(rare, runs, world, workers)
        if tried >= rare.runs:
            under = f" under {' or '.join(rare.faults)}" if rare.faults else ""
            reasons.append(f"never happened, in {tried} runs{under}: {rare.what}")
        else:
            open_.append(rare.what)
    return reasons, open_
