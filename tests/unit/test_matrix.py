"""The matrix of faults and bugs: a bug for each kind, and a row holds only if it is caught with the fault and not without."""

from benchmarks.matrix import BUGS, Bug, Row
from duress.faults.plan import KINDS
from duress.faults.worlds import can
from duress.scenarios.canaries import find


def test_each_kind_that_can_be_simulated_has_a_bug_that_there_is() -> None:
    assert set(BUGS) == {kind for kind in KINDS if can(kind, "sim")}
    assert all(find(bug.name).name == bug.name for bug in BUGS.values())


def test_a_bug_that_shows_without_the_fault_or_not_with_it_proves_nothing() -> None:
    def row(quiet: tuple[str, ...], caught: tuple[str, ...]) -> Row:
        return Row("deadlock", Bug("deadlock-is-failure"), quiet, 3, caught)

    assert row((), ("S7",)).holds
    assert not row(("S7",), ("S7",)).holds and "FAILS: S7" in str(row(("S7",), ("S7",)))
    assert not row((), ()).holds and "NOT CAUGHT in 3 seeds" in str(row((), ()))
