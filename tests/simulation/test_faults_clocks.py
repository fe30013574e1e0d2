"""Promise: a worker's clock can be wrong, for a while or for good; its own history is told by the harness's clock."""

import pytest
from grounds import Proving, at_charge, soon

from duress.faults.plan import AnyFault, ClockJump, ClockSkew


@pytest.mark.parametrize(
    ("fault", "off"),
    [
        (ClockSkew(duration=0.2, seconds=-2.0, drift=0.1), "-2 s off PostgreSQL's; then it is right again"),
        (ClockSkew(duration=0.2, drift=-0.1), " s off PostgreSQL's; then it is right again"),
        (ClockJump(seconds=86400.0), "+86400 s off PostgreSQL's"),
        (ClockJump(seconds=-3.0), "-3 s off PostgreSQL's"),
    ],
)
def test_a_wrong_clock_changes_nothing_that_matters(ground: Proving, fault: AnyFault, off: str) -> None:
    for record in ground.survives((2, at_charge(fault)), (3, soon(fault))):
        assert record.confirmed_by is not None
        assert record.confirmed_by.startswith(f"the clock of worker-{record.worker} is ")
        assert record.confirmed_by.endswith(off)
        assert (record.healed is None) == isinstance(fault, ClockJump)


@pytest.mark.parametrize("seconds", [0.2, 1.0, 5.0])
def test_the_servers_clock_jumps(ground: Proving, seconds: float) -> None:
    """All leases end at once, or sooner than anybody thought."""
    fault = ClockJump(seconds=seconds, of="server")
    for record in ground.survives((2, at_charge(fault)), (3, soon(fault)), (4, soon(fault))):
        assert record.confirmed_by == f"PostgreSQL's clock is {seconds:+g} s off"
