"""Scenarios under pytest: judged as `duress run` judges them, drawn by Hypothesis, and in a project that has only the wheel."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command_line import ROOT, environment
from hypothesis import find, settings
from pytest_project import ACCOUNT, ORDERS, counts, pasted, pytest_in, typed

import duress
from duress.faults.plan import KillWorker, Plan
from duress.pytest_plugin.scenarios import RunScenario, Violated

PAYMENTS = """
import duress

@duress.test("payments", seeds=30, faults=["kill-worker"], canary="key-of-the-epoch")
def test_payments():
    raise AssertionError("called though a run violated an invariant")
"""


@pytest.mark.parametrize("world", ["sim", "procs"])
def test_a_scenario_in_a_test_module_passes(tmp_path: Path, world: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_orders.py").write_text(ORDERS)  # in a folder that only pytest has on its path
    said = pytest_in(tmp_path, f"--duress-world={world}")
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_violation_is_told_and_the_pasted_line_shows_it_again(tmp_path: Path) -> None:
    (tmp_path / "test_payments.py").write_text(PAYMENTS)
    said = pytest_in(tmp_path, "-n", "2")
    assert said.returncode == 1, said.stdout + said.stderr
    story = said.stdout.partition("- duress -")[2]
    assert re.search(r"payments in sim, seed \d+ violates S4", story)
    assert re.search(r"What was done to it:\n(  .+\n)*  kill ", story)
    [violation, *_] = re.findall(r"S4 same-key: .+", story)
    again = pasted(tmp_path, said.stdout)
    assert again.returncode == 1, again.stdout + again.stderr
    assert violation in again.stdout


def test_what_proves_too_little_does_not_pass(tmp_path: Path) -> None:
    (tmp_path / "test_idle.py").write_text(
        ORDERS.replace("seeds=2", "seeds=1").replace(
            "async def workload(world) -> None:\n", "async def workload(world) -> None:\n    return\n"
        )
    )
    said = pytest_in(tmp_path)
    assert said.returncode == 1, said.stdout
    assert "inconclusive: " in said.stdout and "nothing was exercised" in said.stdout


def test_mistaken_tests_are_told_in_words(tmp_path: Path) -> None:
    mistakes = {
        'duress.test("nowhere:orders")': "there is no module 'nowhere'",
        'duress.test("payments", faults=["kill-worke"])': "did you mean 'kill-worker'?",
        'duress.test("payments", options={"transfer": 3})': "scenario payments has transfers=",
        'duress.test("payments", canary="none-such")': "no canary 'none-such'",
        "duress.test()": "a program is an async function",
    }
    for number, decorator in enumerate(mistakes):
        path = tmp_path / f"test_wrong_{number}.py"
        path.write_text(f"import duress\n\n@{decorator}\ndef test_wrong():\n    pass\n")
    said = pytest_in(tmp_path, "--continue-on-collection-errors")
    assert counts(said, "failed", "error", "passed") == {"failed": 4, "error": 1, "passed": 0}, said.stdout
    assert [what for what in mistakes.values() if what not in said.stdout] == []


def test_a_failing_plan_shrinks_to_the_one_fault_that_matters(duress_run: RunScenario) -> None:
    def breaks(plan: Plan) -> bool:
        try:
            duress_run("payments", plan=plan, seed=2, canary="key-of-the-epoch")
        except Violated as violated:
            return violated.run.violations[0].invariant == "S4"
        return False

    drawn = duress.plans("payments", faults=["pause-worker", "kill-worker"], most_events=3)
    smallest = find(drawn, breaks, settings=settings(max_examples=100, database=None, derandomize=True, deadline=None))
    [event] = smallest.events
    assert isinstance(event.fault, KillWorker)


def test_a_workload_shrinks_to_the_least_and_can_be_run(duress_run: RunScenario) -> None:
    drawn = duress.workloads("payments", workers=2, most={"transfers": 6})
    smallest = find(drawn, lambda workload: workload["options"]["transfers"] >= 3, settings=settings(database=None))
    assert smallest == {"seed": 0, "workers": 1, "options": {"transfers": 3, "lanes": 1, "lasting": 1}}
    run = duress_run("payments", plan=Plan(), **smallest)
    assert (run.seed, run.workflows) == (0, 3)
    with pytest.raises(click.UsageError, match="payments has transfers="):
        duress.workloads("payments", most={"transfer": 3})


@pytest.fixture(scope="module")
def another_pytest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pytest 8, or with 9 where 8 is the locked one; skipped by name where it cannot be installed."""
    other = "pytest==8.*" if pytest.version_tuple[0] == 9 else "pytest==9.*"
    folder = tmp_path_factory.mktemp("pytest")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        str(folder),
    ]
    done = subprocess.run([*install, other], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{other} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_the_other_pytest_will_do(tmp_path: Path, another_pytest: Path, workers: list[str]) -> None:
    (tmp_path / "test_account.py").write_text(ACCOUNT)
    said = pytest_in(tmp_path, *workers, "-v", "--strict-markers", PYTHONPATH=str(another_pytest))
    other = "8" if pytest.version_tuple[0] == 9 else "9"
    assert re.search(rf"pytest-{other}\.", said.stdout), said.stdout + said.stderr
    assert counts(said, "failed", "passed") == {"failed": 1, "passed": 1}, said.stdout
    again = pasted(tmp_path, said.stdout, programs=another_pytest / "bin", PYTHONPATH=str(another_pytest))
    assert again.returncode == 1
    assert "a deposit is lost" in again.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the built wheel in it, unpacked as pip does."""
    made, folder = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("only the wheel")
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        str(made),
    ]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    [built] = made.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, str(built)], check=True, capture_output=True)
    return folder


def test_a_project_that_has_only_the_wheel_is_told_the_same(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "test_payments.py").write_text(
        PAYMENTS + f"\ndef test_where():\n    assert duress.__file__.startswith({str(wheel)!r})\n"
    )
    env = environment(PYTHONPATH=str(wheel))
    said = typed(tmp_path, "pytest", env)
    assert counts(said, "failed", "passed") == {"failed": 1, "passed": 1}, said.stdout + said.stderr
    [violation, *_] = re.findall(r"S4 same-key: .+", said.stdout)
    again = pasted(tmp_path, said.stdout, PYTHONPATH=str(wheel))
    assert again.returncode == 1, again.stdout + again.stderr
    assert violation in again.stdout
