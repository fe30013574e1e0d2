"""Which world `duress run` takes when none is named."""

import pytest

from duress.cli.choices import chosen_world
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
