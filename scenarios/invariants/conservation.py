"""D1: the scenario's own law. Payments: money is neither made nor lost, at any commit.

The ledger is append-only and carries the money in transit; each of its lines names the commit that wrote it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from duress.scenarios.invariants.invariant import Invariant, Sighting
from duress.scenarios.reading import Reading

TRANSIT = "transit"
Line = dict[str, Any]


def conserved(reading: Reading) -> Iterator[Sighting]:
    tables = reading.evidence.final.tables
    lines = sorted(tables["ledger"], key=lambda line: (line["committed_at"] or line["at"], line["xact"], line["line"]))
    yield from _balanced_commits(lines)
    yield from _transit(lines)
    yield from _accounts(lines, tables["account"])
    by_workflow: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_workflow[line["workflow"]].append(line)
    for id_, rows in reading.workflows.items():
        if len(rows) == 1 and rows[0].status == "succeeded":
            yield from _settled(id_, json.loads(rows[0].outcome or "null"), by_workflow[id_])


def _balanced_commits(lines: Iterable[Line]) -> Iterator[Sighting]:
    commits: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        commits[line["xact"]].append(line)
    for commit, written in commits.items():
        if total := sum(line["cents"] for line in written):
            first = written[0]
            yield Sighting(
                first["workflow"],
                f"Commit {commit} ({first['entry']} of {first['workflow']}, step {first['step']}) entered {total:+d}"
                " cents in the ledger: the lines of one commit must sum to zero.",
            )


def _transit(lines: Iterable[Line]) -> Iterator[Sighting]:
    """No workflow gives out money that it has not taken in, in the order of the commits."""
    balance: Counter[str] = Counter()
    overdrawn: set[str] = set()
    for line in lines:
        if line["account"] == TRANSIT:
            id_ = line["workflow"]
            balance[id_] += line["cents"]
            if balance[id_] < 0 and id_ not in overdrawn:
                overdrawn.add(id_)
                yield Sighting(
                    id_,
                    f"After commit {line['xact']} ({line['entry']}, step {line['step']}, epoch {line['epoch']})"
                    f" workflow {id_} had given out {-balance[id_]} cents more than it had taken.",
                )


def _accounts(lines: Iterable[Line], accounts: Iterable[Line]) -> Iterator[Sighting]:
    moved: Counter[str] = Counter()
    for line in lines:
        moved[line["account"]] += line["cents"]
    missing = 0
    for account in accounts:
        expected = account["opening"] + moved[account["id"]]
        if account["balance"] != expected:
            yield Sighting(
                None,
                f"{account['id']} holds {account['balance']} cents, and its opening balance with its lines in the"
                f" ledger make {expected}: {account['balance'] - expected:+d} cents.",
            )
        missing += account["balance"] - account["opening"]
    if missing + moved[TRANSIT]:
        yield Sighting(
            None, f"All accounts and the money in transit together changed by {missing + moved[TRANSIT]:+d} cents."
        )


def _settled(id_: str, outcome: object, lines: list[Line]) -> Iterator[Sighting]:
    """A transfer that ended was debited once, and credited or refunded in full."""
    sums: Counter[str] = Counter()
    debits = 0
    for line in lines:
        if line["account"] != TRANSIT:
            sums[line["entry"]] += line["cents"]
            debits += line["entry"] == "debit"
    taken = -sums["debit"]
    if debits != 1:
        yield Sighting(id_, f"Workflow {id_} ended as {outcome!r} with {debits} debits.")
    elif outcome == "done" and (sums["credit"] != taken or sums["refund"]):
        yield Sighting(
            id_,
            f"Workflow {id_} ended as 'done': {taken} cents were debited, {sums['credit']} credited and"
            f" {sums['refund']} refunded.",
        )
    elif outcome in ("declined", "refused") and (sums["refund"] != taken or sums["credit"]):
        yield Sighting(
            id_,
            f"Workflow {id_} ended as {outcome!r}: {taken} cents were debited, {sums['refund']} refunded and"
            f" {sums['credit']} credited.",
        )


CONSERVED = Invariant(
    "D1",
    "conserved",
    "Money is conserved at every commit and at the end, money in transit included.",
    conserved,
    tables=("ledger", "account"),
)
