"""From a run of a campaign to the token that names it."""

import dataclasses
from typing import TYPE_CHECKING

from duress.scenarios.settings import USUAL
from duress.scenarios.sim import token
from duress.scenarios.sim.token import Reproduction, Unusual
from duress.simulator import tokens

if TYPE_CHECKING:
    from duress.scenarios.campaign import Order
    from duress.scenarios.observed import Simulated


def token_of(order: "Order", seed: int, postgres: str, simulated: "Simulated | None" = None) -> str:
    """One word for the run of `seed`; with what was seen of it, if it came to its end."""
    run = Reproduction(
        reference=order.work.reference,
        seed=seed,
        unusual=_unusual(order, seed, postgres),
        hash=None if simulated is None else simulated.hash,
        code=None if simulated is None else simulated.code,
    )
    return token.encode(run)


def _unusual(order: "Order", seed: int, postgres: str) -> Unusual:
    work, scenario = order.work, order.scenario
    sizes = {**scenario.options, **scenario.simulated}
    settings, usual = dataclasses.asdict(work.settings), dataclasses.asdict(USUAL["sim"])
    drawn_from = order.asked if order.plan is None else None
    recorded = work.simulating.choices
    return Unusual(
        canary=work.canary,
        options={name: size for name, size in sorted(work.options.items()) if sizes.get(name) != size},
        settings={name: value for name, value in settings.items() if usual[name] != value},
        kinds=None if drawn_from is None else tuple(drawn_from),
        plan=order.plan,
        scheduler=work.simulating.scheduler,
        choices=None if recorded is None else tokens.pack(seed, recorded),
        postgres=token.major_of(postgres),
    )
