"""Canaries fit the source as it is, are as small as promised, and break what they say, in the process that applies them."""

import re
import subprocess
import sys

import pytest

from duress.engine import observer
from duress.faults.plan import KINDS
from duress.scenarios import mutation, registry
from duress.scenarios.canaries import BY_SCENARIO, Canary, UnknownCanary, canaries, find
from duress.scenarios.invariants import INVARIANTS
from duress.scenarios.mutation import Substitution, SubstitutionError

ALL = [canary for group in BY_SCENARIO.values() for canary in group]
every_canary = pytest.mark.parametrize("canary", ALL, ids=lambda canary: canary.name)
DELAYS = re.compile(r"sleep\s*\(|pg_sleep|wait_for|timeout|random|uuid|urandom|shuffle")


@every_canary
def test_each_substitution_matches_once(canary: Canary) -> None:
    """A canary that stops matching the source must not go unnoticed: it would be a sound engine by another name."""
    for file in {one.file for one in canary.substitutions}:
        text = mutation.mutated(file, canary.substitutions)
        assert text != mutation.source(file)
        if file.endswith(".py"):
            compile(text, file, "exec")


@every_canary
def test_a_canary_changes_few_lines_and_adds_no_delay_and_no_chance(canary: Canary) -> None:
    assert 1 <= sum(one.changed_lines for one in canary.substitutions) <= 5
    assert not any(DELAYS.search(one.new) and not DELAYS.search(one.old) for one in canary.substitutions)


@every_canary
def test_a_canary_speaks_of_things_that_there_are(canary: Canary) -> None:
    assert canary.breaks and set(canary.breaks) <= INVARIANTS.keys()
    assert set(canary.faults) <= KINDS.keys()
    points = {value for name, value in vars(observer).items() if name.isupper()}
    assert {point for point, _ in canary.places} <= points
    assert find(canary.name) is canary
    assert "\n" not in canary.doc and len(canary.doc) <= 100


@pytest.mark.parametrize("scenario", registry.names())
def test_each_invariant_of_a_scenario_has_a_canary_of_its_own(scenario: str) -> None:
    assert [canary.breaks[0] for canary in canaries(scenario).values()] == list(registry.find(scenario).invariants)


def test_names_are_unique_and_unknown_ones_are_refused() -> None:
    assert len({canary.name for canary in ALL}) == len(ALL)
    assert canaries("no such scenario") == {}
    with pytest.raises(UnknownCanary, match=r"'no such canary'; there is .*upsert"):
        find("no such canary")


def test_what_does_not_match_once_is_refused_with_file_and_text() -> None:
    with pytest.raises(SubstitutionError, match=r"engine/steps\.py: a substitution matches 0 times.*'no such text'"):
        mutation.mutated("engine/steps.py", [Substitution("engine/steps.py", "no such text", "")])
    with pytest.raises(SubstitutionError, match="must match once"):
        mutation.mutated("engine/steps.py", [Substitution("engine/steps.py", "import", "")])


def test_lines_are_counted_where_they_differ() -> None:
    assert Substitution("x.py", "a\nb\nc\n", "a\nB\nc\n").changed_lines == 1
    assert Substitution("x.py", "a\nc\n", "a\nb\nb\nc\n").changed_lines == 2
    assert Substitution("x.py", "a\nb\n", "").changed_lines == 2


def test_a_module_is_known_by_its_file() -> None:
    assert Substitution("scenarios/library/payments.py", "", "").module == "duress.scenarios.library.payments"
    assert Substitution("engine/sql/0001_tables.sql", "", "").module is None


def python(program: str) -> str:
    """What a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_a_canary_changes_the_process_that_applies_it_before_its_imports() -> None:
    said = python(
        "from duress.scenarios.canaries import apply_canary\n"
        "import sys\n"
        "assert not any(name.startswith('duress.engine') for name in sys.modules)\n"
        "apply_canary('path-unchecked')\n"
        "from duress.scenarios.library import payments\n"
        "print(payments.os.__name__, 'getpid' in payments.transfer.function.__code__.co_names)\n"
    )
    assert said.strip() == "os True"


def test_what_a_canary_does_not_name_is_left_alone() -> None:
    said = python(
        "from duress.scenarios.canaries import apply_canary\n"
        "apply_canary('key-of-the-epoch')\n"
        "from duress.engine import execution, link\n"
        "print(type(execution.__loader__).__name__, type(link.__loader__).__name__)\n"
    )
    assert said.strip() == "SourceFileLoader SourceFileLoader"


def test_a_canary_that_comes_too_late_is_refused() -> None:
    said = python(
        "import duress.engine\nfrom duress.scenarios.canaries import apply_canary\napply_canary('key-of-the-epoch')\n"
    )
    assert "duress.engine.steps was imported before its variant was applied" in said
