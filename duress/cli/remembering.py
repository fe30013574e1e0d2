"""Before a campaign the kept runs of its scenario are replayed; after it its failing runs are made smaller, and kept."""

import contextlib
import dataclasses
import shlex
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import click
import msgspec

from duress.cli.choices import POINTS
from duress.cli.live import writing
from duress.cli.orders import order_of
from duress.faults.plan import PlanError
from duress.faults.validation import validate
from duress.reports.wording import plain
from duress.scenarios import verdict
from duress.scenarios.campaign import Order, Outcome
from duress.scenarios.conclusion import conclude, gaps
from duress.scenarios.corpus import Corpus, Kept, Unreadable
from duress.scenarios.invariants import judge
from duress.scenarios.observed import Observed, RunFailed
from duress.scenarios.result import Remembered
from duress.scenarios.shrinking.failures import shrink_failures
from duress.scenarios.shrinking.variant import Variant
from duress.scenarios.sim import token
from duress.scenarios.sim.ground import SimGround, open_sim_ground
from duress.simulator import TokenError

_MARKS: Final = {"fails": "✗", "passes": "✓", "does not fit": "?"}
_SAID: Final = {"fails": "still fails", "passes": "now passes", "does not fit": "no longer fits the code"}

GroundOf = Callable[[Order], Awaitable[SimGround]]


class _Unfit(Exception):
    """A kept run cannot be made any more, or is another one; the message says why."""


async def replayed(order: Order, *, quiet: bool) -> tuple[Remembered, ...]:
    """What became of the kept runs of the order's scenario; each is told on stderr. Raises ServerError."""
    if order.corpus is None:
        return ()
    kept = list(Corpus(order.corpus).of(order.work.reference, order.work.canary))
    if not kept:
        return ()
    found = []
    async with _grounds() as ground_of:
        for path, one in kept:
            found.append(await _replayed(path, one, order, ground_of))
            if not quiet:
                click.echo(plain(_line(found[-1])), err=True)
    return tuple(found)


def _line(one: Remembered) -> str:
    return f"{_MARKS[one.state]} corpus: {one.file} ({one.invariant}) {_SAID[one.state]}: {one.message}"


async def _replayed(path: Path, one: Kept | Unreadable, order: Order, ground_of: GroundOf) -> Remembered:
    again = shlex.join(["duress", "replay", str(path) if isinstance(one, Unreadable) else one.token])
    invariant = path.name.partition("-")[0] if isinstance(one, Unreadable) else one.invariant
    try:
        if isinstance(one, Unreadable):
            raise _Unfit(str(one))
        broken = await _broken(one, order, ground_of)
    except _Unfit as error:
        return Remembered(
            file=str(path), invariant=invariant, state="does not fit", message=str(error), reproduce=again
        )
    return Remembered(
        file=str(path),
        invariant=invariant,
        state="fails" if broken else "passes",
        message=broken or f"it broke {invariant} under duress {one.duress}: {one.message}",
        reproduce=again,
    )


async def _broken(one: Kept, order: Order, ground_of: GroundOf) -> str:
    """What the run breaks now; empty if it holds all that its scenario promises. Raises _Unfit."""
    try:
        run = token.decode(one.token)
        if run.reference != order.work.reference:
            raise _Unfit(f"its token is of {run.reference}")
        named = order_of(run, order.out)
        variant = Variant.of(named, run.seed)
        validate(variant.plan, workers=variant.settings.workers, points=POINTS)
        ground = await ground_of(named)
        observed = await ground.vary(run.seed, variant.plan, variant.variation(named.work.simulating))
    except (TokenError, PlanError, click.UsageError) as error:
        raise _Unfit(str(error)) from error
    except RunFailed as error:
        raise _Unfit(f"the run fails in itself: {str(error).strip().splitlines()[-1]}") from error
    findings = judge(observed.evidence, named.scenario.invariants)
    findings.sort(key=lambda finding: finding.invariant != one.invariant)  # its own first
    if findings:
        other = "" if findings[0].invariant == one.invariant else f"breaks {findings[0].invariant} instead: "
        return other + findings[0].message
    if reasons := _unlike(variant, observed):
        raise _Unfit(f"it passes, but is another run now: {'; '.join(reasons)}")
    return ""


def _unlike(variant: Variant, observed: Observed) -> list[str]:
    """Why the run says nothing of what it was kept for."""
    reasons = list(verdict.doubts_of(observed))
    simulated = observed.simulated
    assert simulated is not None and simulated.choices is not None
    if simulated.misfits:
        reasons.append(f"{simulated.misfits} of its decisions are out of bounds")
    for stream, values in sorted((variant.choices or {}).items()):
        unasked = sum(1 for value in values[len(simulated.choices.get(stream, ())) :] if value)
        if unasked:
            reasons.append(f"{unasked} of its decisions of the {stream} were not asked for")
    return reasons


@contextlib.asynccontextmanager
async def _grounds() -> AsyncIterator[GroundOf]:
    """One cell for each scheduler that the runs ask for, opened when it is first needed."""
    grounds: dict[str, SimGround] = {}
    async with contextlib.AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="duress-corpus-")))

        async def ground_of(order: Order) -> SimGround:
            scheduler = order.work.simulating.scheduler
            if scheduler not in grounds:
                work = dataclasses.replace(order.work, logs=logs / scheduler)
                grounds[scheduler] = await stack.enter_async_context(open_sim_ground(work, 0))
            return grounds[scheduler]

        yield ground_of


async def remembered(
    order: Order, outcome: Outcome, kept: tuple[Remembered, ...], going: Callable[[], bool], *, quiet: bool
) -> Outcome:
    """The outcome with the kept runs in it, and its failing runs made smaller, told and kept. Raises ServerError."""
    campaign = outcome.campaign
    if order.shrink and any(run.violations for run in campaign.runs):
        with writing(f"making failing runs smaller, for {order.shrink:g} s at most", quiet=quiet):
            campaign = await shrink_failures(order, campaign, going)
    if order.corpus is not None:
        for path in Corpus(order.corpus).keep(campaign):
            if not quiet:
                click.echo(f"kept, to be replayed first next time: {path}", err=True)
    if kept:
        # What the campaign could not cover by itself is said once.
        own = gaps(campaign, campaign.runs)
        standing = tuple(gap for gap in campaign.not_covered if gap not in own)
        campaign = conclude(msgspec.structs.replace(campaign, corpus=kept, not_covered=standing), campaign.runs)
    return Outcome(campaign, outcome.failures)
