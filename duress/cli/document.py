"""What `duress run --json` prints: exactly one JSON document."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from duress.reports import HTML_FILE, RESULT_FILE
from duress.scenarios import verdict
from duress.scenarios.result import Campaign

_WORST_FIRST = ("fail", "inconclusive", "pass")


def document(campaigns: Sequence[tuple[Path, Campaign]], **more: Any) -> bytes:
    """`verdict`, `runs` (how many), `violations`, `faults` over all campaigns; then each campaign by itself, and `more`."""
    runs = [run for _, campaign in campaigns for run in campaign.runs]
    found: dict[str, Any] = {
        "verdict": min((campaign.verdict for _, campaign in campaigns), key=_WORST_FIRST.index),
        "reasons": [reason for _, campaign in campaigns for reason in campaign.reasons],
        "runs": len(runs),
        "violations": [violation for run in runs for violation in run.violations],
        "faults": {
            kind: {"planned": planned, "fired": fired} for kind, (planned, fired) in verdict.fault_counts(runs).items()
        },
        "campaigns": [_campaign(folder, campaign) for folder, campaign in campaigns],
        **more,
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def _campaign(folder: Path, campaign: Campaign) -> dict[str, Any]:
    return {
        "scenario": campaign.scenario,
        "world": campaign.world,
        "canary": campaign.canary,
        "verdict": campaign.verdict,
        "runs": len(campaign.runs),
        "run_twice": campaign.run_twice,
        "divergences": campaign.divergences,
        "corpus": campaign.corpus,
        "lost_in_transaction": sum(run.lost_in_transaction for run in campaign.runs),
        "acknowledged_lost": sum(run.acknowledged_lost for run in campaign.runs),
        "attempts_without_checkpoint": sum(run.attempts_without_checkpoint for run in campaign.runs),
        "bodies_rerun": sum(run.bodies_rerun for run in campaign.runs),
        "ambiguous_commits": sum(run.ambiguous_commits for run in campaign.runs),
        "result": str(folder / RESULT_FILE),
        "report": str(folder / HTML_FILE),
    }
