"""Mutants fit the source as it is, are subtle changes and no delays, and their table tells what was not found."""

import re

import pytest

from benchmarks.mutants.suite import digest, read
from benchmarks.mutants.table import Found, lines
from duress.scenarios import mutation, registry
from duress.scenarios.canaries import BY_SCENARIO, find
from duress.scenarios.invariants import INVARIANTS
from duress.scenarios.mutants import MUTANTS, Mutant

every_mutant = pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
DELAYS = re.compile(r"sleep\s*\(|pg_sleep|wait_for|random|uuid|urandom|shuffle")


@every_mutant
def test_each_substitution_matches_once(mutant: Mutant) -> None:
    for file in {one.file for one in mutant.substitutions}:
        text = mutation.mutated(file, mutant.substitutions)
        assert text != mutation.source(file)
        if file.endswith(".py"):
            compile(text, file, "exec")


@every_mutant
def test_a_mutant_changes_few_lines_of_the_engine_and_adds_no_delay_and_no_chance(mutant: Mutant) -> None:
    assert 1 <= sum(one.changed_lines for one in mutant.substitutions) <= 6
    assert all(one.file.startswith("engine/") for one in mutant.substitutions)
    assert not any(DELAYS.search(one.new) and not DELAYS.search(one.old) for one in mutant.substitutions)


@every_mutant
def test_a_mutant_speaks_of_things_that_there_are(mutant: Mutant) -> None:
    assert mutant.breaks and set(mutant.breaks) <= set(registry.find("payments").invariants) <= INVARIANTS.keys()
    assert find(mutant.name) is mutant
    assert mutant.name not in {canary.name for group in BY_SCENARIO.values() for canary in group}
    assert "\n" not in mutant.doc and len(mutant.doc) <= 120


@every_mutant
def test_where_the_engines_own_tests_were_run_on_it_they_passed(mutant: Mutant) -> None:
    """`python -m benchmarks.mutants.suite` writes the table; a mutant that those tests find measures nothing."""
    row = read().get(mutant.name)
    assert row is None or row.verdict == "passes"


def test_a_row_of_the_suite_speaks_of_one_change() -> None:
    digests = [digest(mutant) for mutant in MUTANTS.values()]
    assert len(set(digests)) == len(MUTANTS)


def found(repetition: int, seeds: int, *caught: str, scheduler: str = "random") -> Found:
    return Found(
        mutant="second-race-is-failure",
        scheduler=scheduler,
        repetition=repetition,
        seeds=seeds,
        seconds=seeds / 2,
        caught=caught,
        most=500,
    )


def test_the_table_has_a_row_for_each_scheduler_and_says_what_was_not_found() -> None:
    mutant = MUTANTS["second-race-is-failure"]
    known = [found(number, 10 * number, "S7") for number in range(1, 7)]
    known += [found(7, 500), found(1, 500, scheduler="pos")]
    head, one, other = (re.split(r"  +", line) for line in lines([mutant], known))
    assert head == ["mutant", "grade", "scheduler", "found", "seeds: median [95 %]", "seconds", "by"]
    assert one == ["second-race-is-failure", mutant.grade, "random", "6 of 7", "40 [10, > 500]", "20", "S7:6"]
    assert other == ["second-race-is-failure", mutant.grade, "pos", "NOT FOUND in 1", "> 500"]
    assert lines([mutant], [])[1].endswith("not measured")
