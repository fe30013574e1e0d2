"""Which world `duress run` takes when none is named, and which faults it draws."""

import pytest

from duress.cli.choices import chosen_kinds, chosen_world
from duress.faults.plan import KINDS
from duress.faults.worlds import can
from duress.scenarios import registry
from duress.scenarios.canaries import find
from duress.simulator.server import SimUnavailable, library


def test_what_was_asked_for_counts() -> None:
    assert chosen_world("procs", None) == "procs"
    assert chosen_world("sim", "postgresql://localhost/x") == "sim"  # and is then refused by name


def test_a_server_of_the_users_own_is_for_real_processes() -> None:
    assert chosen_world(None, "postgresql://localhost/x") == "procs"


def test_where_nothing_can_be_simulated_real_processes_run_and_it_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise SimUnavailable("there is no C compiler")

    monkeypatch.setattr(library, "library_path", refuse)
    assert chosen_world(None, None) == "procs"
    said = capsys.readouterr().err
    assert "there is no C compiler" in said and "--world procs" in said


def test_all_faults_are_all_that_the_world_can_do_also_for_a_canary_that_has_its_own() -> None:
    payments, canary = registry.find("payments"), find("recovery-skips-new")
    everything = {kind for kind in KINDS if can(kind, "sim")}
    assert set(chosen_kinds(payments, canary, "all", "sim", own_server=True)) == everything
    assert set(chosen_kinds(payments, canary, None, "sim", own_server=True)) == set(canary.faults) < everything
    assert chosen_kinds(payments, None, "all", "sim", own_server=True) == chosen_kinds(
        payments, None, None, "sim", own_server=True
    )
