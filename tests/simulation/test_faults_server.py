"""Promise: each fault of the server strikes in a simulated run, is seen by what it does, heals, and payments survive it."""

import pytest
from grounds import Proving, at_charge, at_point, soon

from duress.faults.plan import (
    AnyFault,
    CrashAtCommit,
    DiskFull,
    FsyncFails,
    PausePostgres,
    TooManyConnections,
)

LASTING = [
    (PausePostgres(duration=0.2), "PostgreSQL does not take what has arrived; then PostgreSQL goes on"),
    (TooManyConnections(duration=0.2), "was sent 53300; then connections are free again"),
    (DiskFull(duration=0.2), "failed with ENOSPC; then there is room again"),
]


@pytest.mark.parametrize(("fault", "confirmed"), LASTING, ids=lambda value: repr(value)[:70])
def test_a_fault_that_lasts_strikes_and_heals(ground: Proving, fault: AnyFault, confirmed: str) -> None:
    for record in ground.survives((2, at_charge(fault)), (3, soon(fault))):
        assert record.confirmed_by is not None and record.confirmed_by.endswith(confirmed)
        assert record.asked is not None and record.effect is not None and record.healed is not None
        assert record.asked <= record.effect
        assert record.healed - record.effect == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("at", ["before-record", "after-record"])
def test_the_server_crashes_at_the_next_commit(ground: Proving, at: str) -> None:
    fault = CrashAtCommit(at=at)  # type: ignore[arg-type]
    for record in ground.survives((2, at_point(fault, "step.committing", "debit")), (3, soon(fault))):
        assert record.confirmed_by is not None
        assert record.confirmed_by.endswith(f"was killed in commit, {at}; then PostgreSQL has recovered")


def test_the_server_does_not_outlive_an_fsync_that_fails(ground: Proving) -> None:
    fault = FsyncFails()
    for record in ground.survives((2, at_charge(fault)), (3, soon(fault))):
        assert record.confirmed_by is not None
        assert record.confirmed_by.startswith("an fsync of PostgreSQL failed with EIO, and it went down; then Postgre")
        assert record.healed is not None and record.effect is not None and record.healed > record.effect
