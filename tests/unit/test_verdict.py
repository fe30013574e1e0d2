"""Nothing passes silently: a fault that never fired, or runs that prove little, make a campaign inconclusive."""

from duress.scenarios import verdict
from duress.scenarios.result import FaultRecord, Run, Verdict, Violation


def fault(kind: str, fired: bool) -> FaultRecord:
    return FaultRecord(kind=kind, worker=0, trigger="at 1 s", asked=1.0, effect=1.0 if fired else None)


def run(seed: int, decided: Verdict = "pass", *faults: FaultRecord, violations: tuple[Violation, ...] = ()) -> Run:
    reasons = ("nothing was exercised",) if decided == "inconclusive" else ()
    return Run(seed=seed, verdict=decided, reasons=reasons, faults=faults, violations=violations)


def broken(seed: int) -> Violation:
    return Violation(invariant="S2", title="no-rerun", seed=seed, message="ran again", reproduce="duress run …")


def test_a_campaign_passes_when_all_runs_pass_and_every_kind_fired() -> None:
    runs = [run(1, "pass", fault("kill-worker", True)), run(2)]
    assert verdict.of_campaign(runs) == ("pass", ())


def test_one_violation_fails_it() -> None:
    runs = [run(seed) for seed in range(99)] + [run(99, "fail", violations=(broken(99),))]
    assert verdict.of_campaign(runs) == ("fail", ("1 of 100 runs violated S2",))


def test_a_kind_that_never_fired_makes_it_inconclusive() -> None:
    runs = [run(seed, "pass", fault("kill-worker", True)) for seed in range(99)]
    runs.append(run(99, "inconclusive", fault("kill-worker", True), fault("pause-worker", False)))
    decided, reasons = verdict.of_campaign(runs)
    assert decided == "inconclusive"
    assert reasons == ("pause-worker was planned 1 time and never fired",)


def test_two_percent_of_inconclusive_runs_are_tolerated_and_not_more() -> None:
    good = [run(seed) for seed in range(98)]
    assert verdict.of_campaign([*good, run(98, "inconclusive"), run(99, "inconclusive")])[0] == "pass"
    decided, reasons = verdict.of_campaign([*good[:-1], *(run(seed, "inconclusive") for seed in (97, 98, 99))])
    assert decided == "inconclusive"
    assert "3 of 100 runs are inconclusive" in reasons[0] and "nothing was exercised" in reasons[0]


def test_nothing_run_is_not_a_pass() -> None:
    assert verdict.of_campaign([])[0] == "inconclusive"


def test_a_violation_counts_even_in_a_doubtful_run() -> None:
    assert verdict.of_run(True, ["did not fire"]) == "fail"
    assert verdict.of_run(False, ["did not fire"]) == "inconclusive"
    assert verdict.of_run(False, []) == "pass"


def test_faults_are_counted_by_kind() -> None:
    runs = [run(1, "pass", fault("b", True), fault("a", False)), run(2, "pass", fault("a", True))]
    assert verdict.fault_counts(runs) == {"a": (2, 1), "b": (1, 1)}
