"""The pytest plugin as a project uses it: its tests run in pytests of their own, and what they say can be pasted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import environment
from pytest_project import ACCOUNT, counts, pasted, pytest_in

QUIET = """
import duress

@duress.test(seeds=3)
async def test_program():
    pass

def test_other():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of somebody else's, with a test that loses a deposit under some seeds, and one that does not."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_account.py").write_text(ACCOUNT)
    return tmp_path


@pytest.mark.parametrize(("workers", "hash_seed"), [([], "7"), (["-n", "2"], "random")], ids=["alone", "xdist"])
def test_a_failed_program_tells_its_story_and_the_pasted_line_fails_alike(
    project: Path, workers: list[str], hash_seed: str
) -> None:
    said = pytest_in(project, *workers, "--strict-markers", PYTHONHASHSEED=hash_seed)
    assert said.returncode == 1, said.stdout + said.stderr
    assert counts(said, "failed", "passed") == {"failed": 1, "passed": 1}
    [lost] = set(re.findall(r"AssertionError: (a deposit is lost: \(\d+,\))", said.stdout))
    token = re.search(r"run (d1\.\d+\.s\.\d+) fails", said.stdout)
    assert token is not None
    # What a reader follows: both read before either writes.
    story = said.stdout.partition("What happened")[2]
    reads = [place.start() for place in re.finditer("select cents from account", story)]
    assert story.index("client-10") >= 0 and reads[1] < story.index("update account")
    assert ("PYTHONHASHSEED=0 in the environment" in said.stdout) == (hash_seed == "random")
    assert ("\nPYTHONHASHSEED=7 pytest " in said.stdout) == (hash_seed == "7")
    again = pasted(project, said.stdout, PYTHONHASHSEED="random")
    assert again.returncode == 1, again.stdout + again.stderr
    assert lost in again.stdout and token[1] in again.stdout
    assert counts(again, "failed", "passed") == {"failed": 1, "passed": 0}


def test_each_worker_of_xdist_has_a_server_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test_cells.py").write_text(
        "import os, time, pathlib, pytest\n"
        "@pytest.mark.parametrize('number', range(6))\n"
        "def test_cell(duress_cell, number):\n"
        "    folder = pathlib.Path('seen') / os.environ['PYTEST_XDIST_WORKER']\n"
        "    folder.mkdir(parents=True, exist_ok=True)\n"
        "    (folder / duress_cell.server.directory.name).touch()\n"
        "    time.sleep(0.3)\n"
    )
    said = pytest_in(tmp_path, "-n", "2")
    assert said.returncode == 0, said.stdout + said.stderr
    seen = {folder.name: [file.name for file in folder.iterdir()] for folder in (tmp_path / "seen").iterdir()}
    assert seen.keys() == {"gw0", "gw1"}
    assert len({*seen["gw0"], *seen["gw1"]}) == 2 == sum(map(len, seen.values()))


def test_switched_off_its_tests_are_skipped_by_name(tmp_path: Path) -> None:
    (tmp_path / "test_quiet.py").write_text(QUIET)
    said = pytest_in(tmp_path, "-p", "no:duress", "--strict-markers", "-rs")
    assert said.returncode == 0, said.stdout + said.stderr
    assert counts(said, "passed", "skipped") == {"passed": 1, "skipped": 1}
    assert "the plugin is switched off (-p no:duress)" in said.stdout


def test_its_tests_can_be_selected_by_their_mark(tmp_path: Path) -> None:
    (tmp_path / "test_quiet.py").write_text(QUIET)
    said = pytest_in(tmp_path, "-m", "duress", "--strict-markers", "-v")
    assert counts(said, "passed", "deselected") == {"passed": 1, "deselected": 1}
    assert "test_program PASSED" in said.stdout


def test_nothing_heavy_is_loaded_with_the_plugin() -> None:
    program = (
        "import sys, pytest; before = set(sys.modules)\n"
        "import duress, duress.pytest_plugin; duress.test\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert said.stdout.split() == ["duress"]


SEEDS = """
import duress

@duress.test(seeds=range(5, 8))
async def test_seeds(run):
    with open("seeds", "a") as file:
        print(run.choices.seed, file=file)
"""


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        ([], ["5", "6", "7"]),
        (["--duress-seeds=2"], ["1", "2"]),
        (["--duress-seed=4711"], ["4711"]),
        ([f"--duress-replay=d1.{sys.version_info.major}{sys.version_info.minor}.s.12"], ["12"]),
    ],
    ids=" ".join,
)
def test_options_say_which_seeds_are_run(tmp_path: Path, options: list[str], seeds: list[str]) -> None:
    (tmp_path / "test_seeds.py").write_text(SEEDS)
    said = pytest_in(tmp_path, *options)
    assert said.returncode == 0, said.stdout
    assert list(dict.fromkeys((tmp_path / "seeds").read_text().split())) == seeds


def test_a_time_is_filled_with_seeds(tmp_path: Path) -> None:
    (tmp_path / "test_seeds.py").write_text(SEEDS)
    said = pytest_in(tmp_path, "--duress-time=1")
    assert said.returncode == 0, said.stdout
    seeds = list(dict.fromkeys((tmp_path / "seeds").read_text().split()))
    assert len(seeds) > 3 and seeds == [str(number) for number in range(1, len(seeds) + 1)]


@pytest.mark.parametrize(
    ("options", "code", "what"),
    [
        (["--duress-seed=1", "--duress-seeds=2"], 4, "--duress-seeds and --duress-seed exclude each other"),
        (["--duress-seeds=0"], 4, "invalid"),
        (["--duress-replay=d1.27.s.1"], 1, "this token is of Python 2.7"),
        (["--duress-replay=nonsense"], 1, "'nonsense' is not a reproduction token"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_in_words(tmp_path: Path, options: list[str], code: int, what: str) -> None:
    (tmp_path / "test_quiet.py").write_text(QUIET)
    said = pytest_in(tmp_path, *options)
    assert said.returncode == code
    assert what in said.stdout + said.stderr


def test_programs_are_not_run_with_real_processes(tmp_path: Path) -> None:
    (tmp_path / "test_quiet.py").write_text(QUIET)
    said = pytest_in(tmp_path, "--duress-world=procs", "-rs")
    assert counts(said, "passed", "skipped") == {"passed": 1, "skipped": 1}
    assert "a program runs in the simulator only" in said.stdout


def test_a_program_that_hangs_or_leaves_the_simulation_fails_in_words(tmp_path: Path) -> None:
    (tmp_path / "test_odd.py").write_text(
        "import asyncio, socket, pytest, duress\n"
        "@duress.test(seeds=3)\n"
        "async def test_hangs():\n"
        "    await asyncio.Event().wait()\n"
        "@duress.test(seeds=3)\n"
        "async def test_escapes():\n"
        "    socket.create_connection(('127.0.0.1', 1))\n"
        "@duress.test(seeds=3)\n"
        "async def test_skips():\n"
        "    pytest.skip('not today')\n"
        "@duress.test(seeds=3)\n"
        "async def test_fails():\n"
        "    pytest.fail('never')\n"
        "@duress.test(seeds=3)\n"
        "async def test_still_passes():\n"
        "    await asyncio.sleep(3600)\n"
    )
    said = pytest_in(tmp_path, "-rA")
    assert counts(said, "failed", "skipped", "passed") == {"failed": 3, "skipped": 1, "passed": 1}, said.stdout
    assert re.search(r"FAILED test_odd.py::test_hangs - .*Stuck", said.stdout)
    assert re.search(r"FAILED test_odd.py::test_escapes - .*Escape", said.stdout)
    assert re.search(r"FAILED test_odd.py::test_fails - Failed: never", said.stdout)


def test_other_tests_have_all_cores_and_the_real_clock(tmp_path: Path) -> None:
    (tmp_path / "test_mixed.py").write_text(
        "import asyncio, os, time, duress\n"
        "CORES = os.sched_getaffinity(0)\n"
        "@duress.test(seeds=2)\n"
        "async def test_program(tmp_path):\n"
        "    assert len(os.sched_getaffinity(0)) == 1 and time.time() >= 1_900_000_000\n"
        "def test_after():\n"
        "    assert os.sched_getaffinity(0) == CORES and time.time() < 1_900_000_000\n"
        "    asyncio.run(asyncio.sleep(0))\n"
        "def test_fixture(duress_simulation):\n"
        "    async def main():\n"
        "        raise LookupError('found')\n"
        "    failure = duress_simulation('create table a (b int)', data='').find(main, range(7, 9))\n"
        "    assert failure.seed == 7 and isinstance(failure.error, LookupError)\n"
    )
    said = pytest_in(tmp_path)
    assert said.returncode == 0, said.stdout
