"""A made-up campaign, seeded, with the shapes of a real one: what the report's tests read and what one looks at.

`python tests/unit/synthetic_campaign.py DIRECTORY [--red] [--runs N]` writes its report.
"""

import argparse
import random
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from duress.scenarios.result import Campaign, FaultRecord, Recovery, Run, Span, Violation

WORKERS = 4
LEASE = 1.0
INVARIANTS = {
    "W1": "start-once",
    "W2": "one-outcome",
    "W3": "none-lost",
    "S1": "checkpoint-once",
    "S2": "no-rerun",
    "S3": "effect-once",
    "S4": "same-key",
    "S5": "ordered",
    "S6": "same-path",
    "F1": "fenced",
    "F2": "one-owner",
    "F3": "no-hostage",
    "D1": "conserved",
    "L1": "progress",
}
NOTICED = {  # kind → median seconds until somebody notices
    "kill-worker": 0.004,
    "pause-worker": 1.02,
    "stop-worker": 0.012,
    "terminate-backend": 0.006,
    "crash-backend": 0.015,
    "restart-postgres": 0.05,
}
DOWN = {"kill-worker": 0.5, "pause-worker": 1.6, "stop-worker": 0.4, "crash-backend": 0.12, "restart-postgres": 0.35}
POINTS = (
    "before the 3rd workflow.claimed",
    "before the 2nd step.checkpointing of charge",
    "before the 7th step.committing",
)


@dataclass
class _Life:
    """One run as it unfolds."""

    randomness: random.Random
    spans: list[Span] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)


def campaign(*, runs: int = 30, red: bool = False, seed: int = 1, spans: int = 3) -> Campaign:
    """A campaign of `runs` seeds, of which a `red` one breaks S2 and D1 in some; the first `spans` runs have spans."""
    randomness = random.Random(seed)
    done = tuple(
        _run(random.Random(randomness.random()), number, red=red and number % 7 in (2, 4), spans=number < spans)
        for number in range(runs)
    )
    return Campaign(
        scenario="payments",
        world="procs",
        canary="replay-ignores-last-checkpoint" if red else None,
        workers=WORKERS,
        started_at=1_790_000_000.0,
        seconds=round(sum(run.seconds for run in done) * 1.2, 3),
        duress="0.1.0",
        python="3.11.2",
        postgres="18.6",
        machine="2 cores, Linux 6.1",
        settings={"lease_s": LEASE, "heartbeat_s": 0.25, "poll_s": 0.25, "fsync": False, "seeds": f"0-{runs - 1}"},
        verdict="fail" if red else "pass",
        reasons=("S2 and D1 were violated",) if red else (),
        invariants=INVARIANTS,
        not_covered=(
            "networks: no partition, slow link or cut COMMIT (the procs world has no proxy yet)",
            "power loss: fsync is off, so PostgreSQL's own durability is not tested",
            "failover to a standby",
        ),
        runs=done,
    )


def _run(randomness: random.Random, seed: int, *, red: bool, spans: bool) -> Run:
    seconds = randomness.uniform(5.0, 7.0)
    faults = _faults(randomness, seconds)
    life = _live(randomness, faults, seconds)
    plan = f"seed-{seed}.plan.json"
    line = f"duress run payments --world procs --seed {seed} --workers {WORKERS}"
    if red:
        line += " --canary replay-ignores-last-checkpoint"
    line += f" --plan .duress/2026-09-21-104640/{plan}"
    return Run(
        seed=seed,
        verdict="fail" if red else "pass",
        seconds=round(seconds, 3),
        workflows=len({span.label for span in life.spans if span.what == "owns"}),
        checkpoints=len(life.progress),
        bodies_rerun=randomness.randrange(0, 9),
        attempts_without_checkpoint=randomness.randrange(0, 5),
        ambiguous_commits=randomness.randrange(0, 3),
        lost_in_transaction=randomness.randrange(0, 4),
        stalls=tuple(round(randomness.uniform(0.1, 0.6), 3) for _ in range(randomness.randrange(0, 3))),
        faults=faults,
        violations=_violations(randomness, seed, line) if red else (),
        progress=tuple(life.progress),
        spans=tuple(life.spans) if spans or red else (),
        plan=plan,
        reproduce=line,
    )


def _faults(randomness: random.Random, seconds: float) -> tuple[FaultRecord, ...]:
    at, faults = 0.6, []
    while at < seconds - 2.4:
        kind = randomness.choice(sorted(NOTICED))
        timed = kind in ("restart-postgres", "crash-backend") or randomness.random() < 0.4
        worker = None if kind == "restart-postgres" else randomness.randrange(WORKERS)
        effect = round(at + randomness.uniform(0.001, 0.02), 4)
        faults.append(
            FaultRecord(
                kind=kind,
                worker=worker,
                trigger=f"at {at:.1f} s" if timed else randomness.choice(POINTS),
                asked=round(at, 4),
                effect=effect,
                healed=round(effect + DOWN[kind], 4) if kind in DOWN else effect,
                confirmed_by=f"/proc/{randomness.randrange(1000, 30000)} is gone",
                recovery=_recovery(randomness, kind),
            )
        )
        at += DOWN.get(kind, 0.1) + randomness.uniform(0.6, 1.6)
    return tuple(faults)


def _recovery(randomness: random.Random, kind: str) -> Recovery:
    noticed = NOTICED[kind] * randomness.lognormvariate(0, 0.25)
    reclaimed = noticed + 0.003 * randomness.lognormvariate(0, 0.3)
    first = reclaimed + 0.006 * randomness.lognormvariate(0, 0.5)
    if kind in ("crash-backend", "restart-postgres"):
        first += DOWN[kind] * randomness.lognormvariate(0, 0.2)
    steady = first + 0.12 * randomness.lognormvariate(0, 0.4)
    return Recovery(
        noticed=round(noticed, 5),
        reclaimed=None if kind in ("terminate-backend", "stop-worker") else round(reclaimed, 5),
        first=round(first, 5),
        steady=None if randomness.random() < 0.05 else round(steady, 4),
        drained=round(steady + 0.2 * randomness.lognormvariate(0, 0.4), 4),
        affected=randomness.randrange(4, 16),
    )


def _live(randomness: random.Random, faults: tuple[FaultRecord, ...], seconds: float) -> _Life:
    """Each worker runs workflows one after another in a dozen lanes; a worker that is away loses its own to the
    others."""
    life = _Life(randomness)
    number = 0
    for worker in range(WORKERS):
        away = [fault for fault in faults if fault.worker in (worker, None) and fault.kind in DOWN and fault.effect]
        edges = [0.0, *(edge for fault in away for edge in (fault.effect or 0, fault.healed or 0)), seconds]
        for incarnation, (start, end) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
            what = f"w{worker}.{incarnation}"
            life.spans.append(Span(worker=worker, what="alive", start=start, end=end, label=what))
            life.spans.append(Span(worker=worker, what="lease", start=start, end=min(end + LEASE * 0.8, seconds)))
        for fault in away:
            if fault.kind == "pause-worker":
                life.spans.append(
                    Span(worker=worker, what="paused", start=fault.effect or 0, end=fault.healed or 0, label="SIGSTOP")
                )
        for lane in range(8):
            number = _lane(life, worker, lane, number, edges, faults)
    life.progress.sort()
    return life


def _lane(life: _Life, worker: int, lane: int, number: int, edges: list[float], faults: tuple[FaultRecord, ...]) -> int:
    at = life.randomness.uniform(0.0, 0.15)
    finish = edges[-1] - 1.0
    while at < finish:
        for gone, back in zip(edges[1:-1:2], edges[2::2], strict=True):
            if gone <= at < back:
                at = back + life.randomness.uniform(0.01, 0.06)
        end = at + life.randomness.lognormvariate(-0.9, 0.4)
        cut = next((gone for gone in edges[1:-1:2] if at <= gone < end), None)
        label, stop = f"transfer-{number}", min(end, cut or end, edges[-1])
        number += 1
        life.spans.append(Span(worker=worker, what="owns", start=at, end=stop, label=label, epoch=1))
        life.progress += [round(at + (stop - at) * part / 4, 4) for part in range(1, 5)]
        if cut is not None:
            fault = next(fault for fault in faults if fault.effect == cut)
            heir = (worker + 1 + lane % (WORKERS - 1)) % WORKERS if fault.worker is not None else worker
            taken = cut + (fault.recovery.reclaimed or fault.recovery.first or 0)
            life.spans.append(
                Span(worker=heir, what="owns", start=taken, end=min(taken + 0.4, edges[-1]), label=label, epoch=2)
            )
            life.progress += [round(taken + 0.1 * part, 4) for part in range(1, 4)]
        at = stop + life.randomness.uniform(0.002, 0.03)
    return number


def _violations(randomness: random.Random, seed: int, line: str) -> tuple[Violation, ...]:
    workflow, step = f"transfer-{randomness.randrange(200)}", randomness.randrange(1, 4)
    found = [
        Violation(
            invariant="S2",
            title="no-rerun",
            seed=seed,
            message=f"The body of step {step} (charge) of {workflow} started under epoch 2, claimed 41 ms after "
            "its checkpoint was durable under epoch 1.",
            reproduce=line,
        )
    ]
    if seed % 7 == 4:
        found.append(
            Violation(
                invariant="D1",
                title="conserved",
                seed=seed,
                message="After commit 318 the accounts and the money in transit differ from the start by one "
                f"transfer ({workflow}).",
                reproduce=line,
            )
        )
    return tuple(found)


if __name__ == "__main__":
    from duress.reports import write

    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--red", action="store_true")
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    shown = msgspec.structs.replace(campaign(runs=options.runs, red=options.red), scenario="payments, made-up figures")
    for path in write(shown, options.directory):
        print(path)
