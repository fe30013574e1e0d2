"""A failing run is made smaller, told, kept and replayed: by `duress shrink`, by `duress run` itself, and under pytest."""

import json
import re
import shlex
from pathlib import Path

import pytest
from command_line import Said, duress
from pytest_project import ACCOUNT, pasted, pytest_in

CANARY = "key-of-the-epoch"  # S4 in every few seeds
RUN = ("run", "payments", "--world", "sim", "--canary", CANARY)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A folder with a campaign that failed, was shrunk, and is in the corpus; and what was said."""
    folder = tmp_path_factory.mktemp("kept")
    said = duress(folder, *RUN, "--seeds", "6", "--shrink", "25", "--out", "one", "--json")
    assert said.code == 1, said.err + said.out
    return folder, said


def corpus_of(folder: Path) -> list[Path]:
    return sorted((folder / ".duress" / "corpus" / "payments").glob("S4-*.json"))


def test_a_campaign_shrinks_the_first_failure_of_each_invariant(kept: tuple[Path, Said]) -> None:
    folder, said = kept
    [shrunk] = [one["shrunk"] for one in said.document["violations"] if one["shrunk"] is not None]
    assert shrunk["invariant"] == "S4"
    assert shrunk["after"]["faults"] <= 2 and shrunk["after"]["events"] < shrunk["before"]["events"]
    replayed = duress(folder, *shlex.split(shrunk["reproduce"])[1:], "--json")
    assert replayed.code == 1, replayed.err
    assert [one["same"] for one in replayed.document["replays"]] == [True]
    assert replayed.document["violations"][0]["message"] == shrunk["message"]
    for name in ("report.html", "junit.xml", "summary.md"):
        text = (folder / "one" / name).read_text(encoding="utf-8")
        assert "takes effect" in text and "made smaller" in text.lower(), name


def test_kept_runs_are_replayed_first_and_fail_the_campaign(kept: tuple[Path, Said]) -> None:
    folder, _ = kept
    [path] = corpus_of(folder)
    again = duress(folder, *RUN, "--seeds", "1", "--faults", "none", "--json")
    [remembered] = again.document["campaigns"][0]["corpus"]
    assert remembered["state"] == "fails" and remembered["file"].endswith(path.name)
    assert again.code == 1 and again.document["runs"] == 1
    told = duress(folder, *RUN, "--seeds", "1", "--faults", "none")
    assert re.search(rf"corpus: .*{path.name} \(S4\) still fails: ", told.err)
    without = duress(folder, *RUN, "--seeds", "1", "--faults", "none", "--no-corpus", "--json")
    assert without.code == 0 and without.document["campaigns"][0]["corpus"] == []
    assert corpus_of(folder) == [path]


def test_what_passes_now_and_what_no_longer_fits_is_told(kept: tuple[Path, Said], tmp_path: Path) -> None:
    folder, _ = kept
    [path] = corpus_of(folder)
    entry = json.loads(path.read_text())
    corpus = tmp_path / "corpus" / "payments"
    corpus.mkdir(parents=True)
    passing = duress(tmp_path, "run", "payments", "--world", "sim", "--seed", "1", "--faults", "none", "--json")
    word = json.loads((Path(tmp_path / passing.document["campaigns"][0]["result"])).read_text())["runs"][0]["token"]
    sound = {**entry, "canary": None}
    (corpus / "S4-1.json").write_text(json.dumps({**sound, "token": word}))
    (corpus / "S4-2.json").write_text(json.dumps({**sound, "token": entry["token"][:-9]}))
    (corpus / "S4-3.json").write_text("no JSON")
    said = duress(
        tmp_path, *("run", "payments", "--world", "sim", "--seed", "1", "--faults", "none", "--corpus", "corpus")
    )
    assert re.search(r"S4-1.json \(S4\) now passes", said.err)
    assert re.search(r"S4-2.json \(S4\) no longer fits the code: this token is damaged", said.err)
    assert re.search(r"S4-3.json \(S4\) no longer fits the code: .* is no kept run", said.err)
    assert said.code == 0, said.err


def test_shrink_tells_sizes_the_story_and_what_to_paste(kept: tuple[Path, Said]) -> None:
    folder, _ = kept
    said = duress(folder, "shrink", "one", "--runs", "5")
    assert said.code == 1, said.err
    assert "S4 in seed" in said.out and " → " in said.out and "5 runs" in said.out
    assert "the budget was used up" in said.out
    assert re.search(r"^ 1\. +\d+\.\d+ s  ", said.out, re.MULTILINE)
    assert re.search(r"\[epoch \d+, lease until \d+\.\d+ s\]", said.out)
    assert re.search(r"^duress replay s1\.", said.out, re.MULTILINE)
    passing = duress(folder, "shrink", "one", "--invariant", "W1", "--json")
    assert passing.code == 0 and passing.document == {"shrunk": [], "failed": []}
    assert "does not break W1" in passing.err


def test_a_program_under_pytest_is_shrunk(tmp_path: Path) -> None:
    (tmp_path / "test_account.py").write_text(ACCOUNT)
    said = pytest_in(tmp_path, PYTHONHASHSEED="0")
    found = re.search(r"Made smaller: (\d+) → (\d+) decisions", said.stdout)
    assert found is not None, said.stdout
    assert int(found[2]) < int(found[1])
    line = re.search(r"The small run again:\n(.+)\n", said.stdout)
    assert line is not None
    again = pasted(tmp_path, f"To run it again:\n{line[1]}\n", PYTHONHASHSEED="0")
    assert again.returncode == 1 and "a deposit is lost" in again.stdout
    off = pytest_in(tmp_path, "--duress-shrink=0", PYTHONHASHSEED="0")
    assert "Made smaller" not in off.stdout


def test_a_scenario_under_pytest_is_shrunk(tmp_path: Path) -> None:
    (tmp_path / "test_payments.py").write_text(
        f'import duress\n\n@duress.test("payments", seeds=30, faults=["kill-worker"], canary="{CANARY}")\n'
        "def test_payments():\n    pass\n"
    )
    said = pytest_in(tmp_path)
    assert "Made smaller: " in said.stdout and "broken: " in said.stdout, said.stdout
    line = re.search(r"The small run again:\n(.+)\n", said.stdout)
    assert line is not None
    again = pasted(tmp_path, f"To run it again:\n{line[1]}\n")
    assert again.returncode == 1 and "S4 same-key" in again.stdout
