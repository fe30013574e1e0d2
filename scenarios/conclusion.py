"""What the runs of a campaign amount to, whether it ended, was interrupted, or its shards were put together."""

from collections.abc import Sequence

import msgspec

from duress.scenarios import rare, verdict
from duress.scenarios.result import Campaign, Run


def conclude(campaign: Campaign, runs: Sequence[Run]) -> Campaign:
    """`campaign`, which says what was ordered and what no run of it can cover, with these runs and what they amount to."""
    never, _ = rare.missed(campaign.rare, runs, campaign.world, campaign.workers)
    decided, reasons = verdict.of_campaign(runs, never)
    broken = [f"the harness failed at seed {failure.seed}: {failure.message}" for failure in campaign.failures]
    if campaign.divergences:
        twice, seed = len(campaign.divergences) + sum(run.twice for run in runs), campaign.divergences[0].seed
        broken.append(
            f"{len(campaign.divergences)} of {twice} runs were not the same the second time, the first: seed {seed}"
        )
    missing = _missing(campaign, runs)
    again = [one for one in campaign.corpus if one.state == "fails"]
    if again:
        decided = "fail"
        broken.append(
            f"{len(again)} of {len(campaign.corpus)} runs of the corpus still fail, the first: {again[0].invariant}: "
            f"{again[0].message}"
        )
    return msgspec.structs.replace(
        campaign,
        verdict="inconclusive" if (broken or missing) and decided == "pass" else decided,
        reasons=(*broken, *missing, *reasons),
        sometimes=rare.counts(campaign.rare, runs),
        not_covered=(*gaps(campaign, runs), *campaign.not_covered),
        runs=tuple(runs),
    )


def gaps(campaign: Campaign, runs: Sequence[Run]) -> tuple[str, ...]:
    """What these runs have not shown: kinds of faults, and what did not happen in runs too few to miss it."""
    _, unjudged = rare.missed(campaign.rare, runs, campaign.world, campaign.workers)
    few = (f"too few runs to miss what did not happen in them: {'; '.join(unjudged)}",) if unjudged else ()
    return (*unfired(campaign.allowed, runs), *few)


def unfired(allowed: Sequence[str], runs: Sequence[Run]) -> tuple[str, ...]:
    """The kinds of faults that a reader might think were tested, and were not; none if all fired."""
    seen = {record.kind for run in runs for record in run.faults if record.fired}
    absent = [kind for kind in allowed if kind not in seen]
    return (f"faults that the scenario allows and that did not fire: {', '.join(absent)}",) if absent else ()


def _missing(campaign: Campaign, runs: Sequence[Run]) -> tuple[str, ...]:
    reasons = []
    made = len(runs) + len(campaign.failures) + len(campaign.divergences)
    if campaign.wanted is not None and made < campaign.wanted and not campaign.failures:
        reasons.append(f"{made} of {campaign.wanted} runs were made: it was interrupted, or still goes on")
    if len(campaign.shards) > 1 and (absent := absent_shards(campaign.shards)):
        of = campaign.shards[0].partition("/")[2]
        reasons.append(f"the whole is {of} shards; missing: {', '.join(absent)}")
    return tuple(reasons)


def absent_shards(shards: Sequence[str]) -> list[str]:
    """Those that are not among `shards`, all of one cut; none if there was no cut."""
    of = int(shards[0].partition("/")[2]) if shards else 0
    return [shard for shard in (f"{index}/{of}" for index in range(1, of + 1)) if shard not in shards]
