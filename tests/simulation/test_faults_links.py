"""Promise: each fault of the network strikes a simulated worker, is seen by what it does there, heals, and payments survive."""

import pytest
from grounds import Proving, at_charge, at_point, soon

from duress.faults.plan import (
    AnyFault,
    CommitPoint,
    CutCommit,
    DropConnection,
    LoseNotify,
    Partition,
    RefuseConnections,
    SlowLink,
)

LASTING = [
    (RefuseConnections(duration=0.15), "a connection of worker-", "connections are accepted again"),
    (Partition(duration=0.15), "does not arrive", "everything arrives again"),
    (Partition(duration=0.8, direction="to-server"), "does not arrive", "everything arrives again"),
    (Partition(duration=0.8, direction="to-worker", heals="dead"), "does not arrive", "again, on new connections"),
    (SlowLink(duration=0.3), "takes longer than ever", "as fast as before"),
    (SlowLink(duration=0.3, latency=0.0, bandwidth=20_000), "takes longer than ever", "as fast as before"),
    (LoseNotify(duration=0.2), "a notification did not reach worker-", "notifications arrive again"),
]


@pytest.mark.parametrize(("fault", "effect", "healed"), LASTING, ids=lambda value: repr(value)[:70])
def test_a_fault_that_lasts_strikes_and_heals(ground: Proving, fault: AnyFault, effect: str, healed: str) -> None:
    for record in ground.survives((2, at_charge(fault)), (3, soon(fault))):
        assert record.confirmed_by is not None
        assert effect in record.confirmed_by and record.confirmed_by.endswith(healed)
        assert record.asked is not None and record.effect is not None and record.healed is not None
        assert record.asked <= record.effect
        assert record.healed - record.effect == pytest.approx(fault.duration, abs=0.001)  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_all_connections_of_a_worker_are_dropped(ground: Proving, how: str) -> None:
    fault = DropConnection(how=how)  # type: ignore[arg-type]
    for record in ground.survives((2, at_charge(fault)), (3, soon(fault))):
        assert record.confirmed_by is not None and "connections of worker-" in record.confirmed_by
        assert int(record.confirmed_by.split()[0]) >= 3


@pytest.mark.parametrize("point", CommitPoint.__args__)  # type: ignore[attr-defined]
def test_the_next_commit_is_cut(ground: Proving, point: CommitPoint) -> None:
    fault = CutCommit(at=point)
    for record in ground.survives((2, at_point(fault, "step.committing", "debit")), (3, soon(fault))):
        assert record.confirmed_by == f"a connection of worker-{record.worker} was lost at a COMMIT, {point}"
