"""Promise: what PostgreSQL does to single statements and sessions happens to a simulated worker, and payments survive it.

The worker is sent the SQLSTATE that the catalogue names, and no step's outcome becomes what only disturbed it.
"""

import pytest
from grounds import PAYMENTS, Proving, at_charge, at_point, soon

from duress.faults.plan import (
    AnyFault,
    CancelStatement,
    Deadlock,
    IdleInTransactionTimeout,
    LockTimeout,
    ReadOnly,
    SerializationFailure,
    StatementTimeout,
)
from duress.scenarios.invariants import judge

SENT = [
    (CancelStatement(), "57014"),
    (StatementTimeout(timeout=0.03), "57014"),
    (LockTimeout(timeout=0.02), "55P03"),
    (Deadlock(), "40P01"),
    (SerializationFailure(), "40001"),
    (IdleInTransactionTimeout(timeout=0.04), "25P03"),
    (ReadOnly(duration=0.2), "25006"),
]


@pytest.mark.parametrize(("fault", "code"), SENT, ids=lambda value: repr(value)[:60])
def test_the_worker_is_sent_what_the_catalogue_says(ground: Proving, fault: AnyFault, code: str) -> None:
    for record in ground.survives((2, at_charge(fault)), (3, soon(fault))):
        assert record.confirmed_by is not None
        assert record.confirmed_by.split(";")[0] == f"worker-{record.worker} was sent {code}"
        assert record.asked is not None and record.effect is not None and record.healed is not None
        assert record.asked < record.effect <= record.healed


@pytest.mark.parametrize(
    "fault", [LockTimeout(timeout=0.02), Deadlock(), SerializationFailure(), IdleInTransactionTimeout(timeout=0.04)]
)
def test_a_transaction_that_lost_a_race_is_run_again_and_not_failed(ground: Proving, fault: AnyFault) -> None:
    observed = ground.observe(4, at_point(fault, "step.started", "charge"))
    assert observed.faults[0].fired
    assert judge(observed.evidence, PAYMENTS.invariants) == []
    assert [row for row in observed.evidence.final.checkpoints if row.failed and row.kind == "transaction"] == []


def test_the_worker_may_write_again_when_it_is_over(ground: Proving) -> None:
    [record] = ground.survives((5, soon(ReadOnly(duration=0.3))))
    assert record.healed is not None and record.effect is not None
    assert record.healed - record.effect == pytest.approx(0.3, abs=0.001)
    assert record.confirmed_by is not None and record.confirmed_by.endswith("it may write again")
