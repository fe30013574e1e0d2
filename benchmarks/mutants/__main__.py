"""The table of mutants: how many seeds, and how many seconds, until each is found.

`python -m benchmarks.mutants [NAME…]` runs payments in the simulated world with each mutant, until an invariant is broken or
so many seeds have passed, so many times, under each scheduler; a portfolio takes its schedulers in turn, seed by seed.
Repetition r begins at seed r million. What is known is kept in a file and not measured again.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.mutants.table import Found, lines
from duress.faults.bounds import USUAL_PLACES
from duress.faults.worlds import drawable
from duress.scenarios import registry
from duress.scenarios.campaign import Order, draw
from duress.scenarios.invariants import judge
from duress.scenarios.mutants import MUTANTS
from duress.scenarios.observed import RunFailed
from duress.scenarios.settings import USUAL, Simulating
from duress.scenarios.sim.ground import SimGround, open_sim_ground
from duress.scenarios.work import Work

PAYMENTS = registry.find("payments")
SCHEDULERS = {
    "random": ("random",),
    "fifo": ("fifo",),
    "pct": ("pct",),
    "pos": ("pos",),
    "portfolio": ("random", "pos", "pct"),
}
APART = 1_000_000  # seeds between the beginnings of two repetitions


def order(mutant: str, scheduler: str, logs: Path) -> Order:
    """What `duress run payments --world sim --canary MUTANT` runs, with another scheduler."""
    work = Work(
        scenario=PAYMENTS,
        reference="payments",
        world="sim",
        options={**PAYMENTS.options, **PAYMENTS.simulated},
        settings=USUAL["sim"],
        canary=mutant,
        dsn=None,
        logs=logs,
        simulating=Simulating(scheduler=scheduler, twice_every=0),
    )
    return Order(
        work=work,
        seeds=(),
        plan=None,
        kinds={kind: PAYMENTS.faults[kind] for kind in drawable(PAYMENTS.faults, "sim", "proxy", own_server=True)},
        places=(*USUAL_PLACES, *PAYMENTS.places),
        out=logs,
    )


async def find(grounds: Sequence[tuple[Order, SimGround]], repetition: int, most: int, lane: str) -> Found:
    """One repetition: run seeds until one is found to break an invariant."""
    began = time.monotonic()
    for count in range(1, most + 1):
        one, ground = grounds[count % len(grounds)]
        seed = repetition * APART + count
        try:
            observed = await ground.observe(seed, draw(one, seed))
        except RunFailed as error:  # no catch
            print(
                f"seed {seed} of {one.work.canary}: {str(error).strip().splitlines()[-1]}", file=sys.stderr, flush=True
            )
            continue
        if findings := judge(observed.evidence, PAYMENTS.invariants):
            caught = tuple(sorted({finding.invariant for finding in findings}))
            break
    else:
        caught = ()
    mutant = grounds[0][0].work.canary
    assert mutant is not None
    return Found(
        mutant=mutant,
        scheduler=lane,
        repetition=repetition,
        seeds=count,
        seconds=time.monotonic() - began,
        caught=caught,
        most=most,
    )


async def measure(mutant: str, lane: str, repetitions: Sequence[int], most: int, core: int, kept: Path) -> None:
    """All repetitions of one mutant under one scheduler; each is kept as soon as it is known."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            orders = [order(mutant, scheduler, Path(folder, scheduler)) for scheduler in SCHEDULERS[lane]]
            grounds = [(one, await stack.enter_async_context(open_sim_ground(one.work, core))) for one in orders]
            for repetition in repetitions:
                found = await find(grounds, repetition, most, lane)
                with kept.open("ab") as file:
                    file.write(msgspec.json.encode(found) + b"\n")
                print(
                    f"{mutant} {lane} {repetition}: {found.seeds} seeds, {found.seconds:.0f} s, {found.caught}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants; default: all")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--most", type=int, default=2000, help="seeds after which a repetition counts as not found")
    parser.add_argument("--schedulers", default="random,portfolio", help=f"of {', '.join(SCHEDULERS)}")
    parser.add_argument("--core", type=int, default=0, help="which of the cores to use; two can measure side by side")
    parser.add_argument("--kept", type=Path, default=Path(__file__).with_name("found.jsonl"), help="what is known")
    parser.add_argument("--table", action="store_true", help="measure nothing; print the table of what is known")
    chosen = parser.parse_args()
    names = chosen.names or list(MUTANTS)
    lanes = chosen.schedulers.split(",")
    if unknown := ({*names} - MUTANTS.keys()) | ({*lanes} - SCHEDULERS.keys()):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if not chosen.table:
        for lane in lanes:
            for name in names:
                own = [one for one in read(chosen.kept) if (one.mutant, one.scheduler) == (name, lane)]
                done = {one.repetition for one in own if one.caught or one.most >= chosen.most}
                left = [number for number in range(1, chosen.repetitions + 1) if number not in done]
                if left:
                    asyncio.run(measure(name, lane, left, chosen.most, chosen.core, chosen.kept))
    print("\n".join(lines([MUTANTS[name] for name in names], read(chosen.kept))))


def read(kept: Path) -> list[Found]:
    """What was measured before; of a repetition that was given up and made again with more patience, the last."""
    rows = msgspec.json.Decoder(Found).decode_lines(kept.read_bytes()) if kept.exists() else []
    return list({(one.mutant, one.scheduler, one.repetition): one for one in rows}.values())


if __name__ == "__main__":
    main()
