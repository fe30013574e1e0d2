"""The phases of recovery are what the history says they are, and absent where it says nothing."""

from dataclasses import replace

import pytest
from stories import LEASE, Story, killed, paused, undisturbed

from duress.scenarios.reading import Reading
from duress.scenarios.recovery import (
    recoveries,
    steady_from,
    usual_rate,
)
from duress.scenarios.result import Recovery


def about(seconds: float) -> object:
    """The database's clock is kept as seconds since 1970, exact to a fraction of a microsecond."""
    return pytest.approx(seconds, abs=1e-5)


def test_a_kill_is_told_in_phases() -> None:
    (one,) = recoveries(killed().evidence())
    assert one.noticed == about(0.011)  # worker 1 says that it took over
    assert one.reclaimed == about(0.020)  # by the database's clock
    assert one.first == about(0.040)  # the charge, under the new claim
    assert one.drained == about(0.100)
    assert one.affected == 1


def test_a_pause_is_recovered_from_when_its_lease_is_over() -> None:
    (one,) = recoveries(paused().evidence())
    assert one.noticed == about(0.971)
    assert one.first is not None
    assert LEASE - 0.1 < one.first < LEASE


def test_a_checkpoint_under_the_old_claim_is_no_recovery_from_a_kill() -> None:
    story = killed()
    story.record("t", 1, 0, 0.061, "2/1", "screen")  # it was on its way when the signal came
    assert recoveries(story.evidence())[0].first == about(0.040)


def test_after_a_restart_any_new_checkpoint_counts_and_everybody_is_affected() -> None:
    story = undisturbed()
    story.fault(0, "restart-postgres", 1, 0.055, 0.058, 0.300)
    (one,) = recoveries(story.evidence())
    assert one.affected == 1
    assert one.first == about(0.005)
    assert one.reclaimed is None


def test_faults_that_were_not_injected_have_an_empty_place() -> None:
    evidence = killed().evidence()
    story = killed()
    for place, entry in enumerate(story.entries):
        if "index" in entry.facts:
            story.entries[place] = replace(entry, facts={**entry.facts, "index": 1})
    told = recoveries(story.evidence(), 3)
    assert (told[0], told[2]) == (Recovery(), Recovery())
    assert told[1] == recoveries(evidence)[0]


def test_a_fault_without_effect_has_no_recovery() -> None:
    story = killed()
    story.entries = [entry for entry in story.entries if entry.name != "fault.effect"]
    assert recoveries(story.evidence()) == (Recovery(),)


def test_an_affected_workflow_that_stays_open_is_not_drained() -> None:
    story = killed()
    story.workflows[0] = replace(story.workflows[0], status="open")
    assert recoveries(story.evidence())[0].drained is None


def test_the_victim_of_a_kill_is_noticed_even_if_it_held_nothing() -> None:
    story = undisturbed()
    story.fault(0, "kill-worker", 1, 0.300, 0.302)
    story.take_over(0.310, 0, 2, "lock")
    (one,) = recoveries(story.evidence())
    assert one.noticed == about(0.011)
    assert (one.affected, one.reclaimed, one.first) == (0, None, None)


# The rate: 100 checkpoints a second, a stall of 300 ms after 1.0, then the same rate again.
BEFORE = tuple(number / 100 for number in range(100))
AFTER = tuple(1.3 + number / 100 for number in range(100))


def test_steady_is_where_the_rate_is_back_in_its_band() -> None:
    assert steady_from((*BEFORE, *AFTER), 1.0, 100.0, 2.3) == pytest.approx(1.3)


def test_a_trickle_is_not_steady() -> None:
    trickle = tuple(1.0 + number / 20 for number in range(6))  # 20 a second, where 100 were usual
    assert steady_from((*BEFORE, *trickle, *AFTER), 1.0, 100.0, 2.3) == pytest.approx(1.15, abs=0.06)
    assert steady_from((*BEFORE, *trickle), 1.0, 100.0, 2.3) is None


def test_nothing_is_steady_without_a_usual_rate() -> None:
    assert steady_from((*BEFORE, *AFTER), 1.0, None, 2.3) is None
    assert steady_from((*BEFORE, *AFTER), 1.0, 10.0, 2.3) is None


def test_the_usual_rate_is_taken_since_the_last_disturbance() -> None:
    story = killed()
    story.fault(1, "terminate-backend", 1, 0.500, 0.501)
    reading = Reading(story.evidence())
    moments = [number / 100 for number in range(100)]
    rate = usual_rate(reading, moments, reading.faults[1])
    assert rate == pytest.approx(100.0, rel=0.03)  # from 0.063, when the kill had taken effect; not from 0
    assert usual_rate(reading, moments, reading.faults[0]) is None  # 60 ms are too short to tell


def test_an_empty_history_has_no_recoveries() -> None:
    assert recoveries(Story().evidence()) == ()
