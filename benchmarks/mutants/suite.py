"""Whether the engine's own tests pass on each mutant: `python -m benchmarks.mutants.suite [NAME…]`.

A mutant that they find measures nothing of the harness. Each is tested in a copy of the tree, with its change made to the
files, one after the other. What was found is kept in suite.json beside this file, with a digest: a row is stale when a file
that the mutant changes, or the change, is another one now.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import msgspec

from duress.scenarios import mutation
from duress.scenarios.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("suite.json")
FOLDERS = ("duress", "engine", "simulator", "faults", "scenarios", "reports", "tests")
TESTS = ("tests/unit", "tests/property", "tests/integration")
PATTERN = "test_engine_*.py"
LIMIT_S = 900


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One mutant under the engine's tests."""

    verdict: Literal["passes", "found"]
    tests: str  # pytest's last line, or the test that found it
    digest: str


def digest(mutant: Mutant) -> str:
    """Of the files that the mutant changes, with its changes made."""
    found = hashlib.sha256()
    for file in sorted({one.file for one in mutant.substitutions}):
        found.update(mutation.mutated(file, mutant.substitutions).encode())
    return found.hexdigest()[:16]


def read() -> dict[str, Row]:
    """The table as it was kept."""
    return msgspec.json.decode(TABLE.read_bytes(), type=dict[str, Row]) if TABLE.exists() else {}


def check(mutant: Mutant) -> Row:
    """Run the tests on a copy of the tree with the mutant's change made; the first failure ends them."""
    with tempfile.TemporaryDirectory(prefix="tree-with-mutant-") as name:
        folder = Path(name)
        for one in FOLDERS:
            shutil.copytree(ROOT / one, folder / one, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for file in {one.file for one in mutant.substitutions}:
            (folder / file).write_text(mutation.mutated(file, mutant.substitutions), encoding="utf-8")
        tests = [str(path.relative_to(ROOT)) for where in TESTS for path in sorted((ROOT / where).glob(PATTERN))]
        late: list[str] = []
        while True:
            done = pytest(folder, *tests, *(f"--deselect={one}" for one in late))
            lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["said nothing"]
            if done.returncode == 0:
                return Row(verdict="passes", tests=lines[-1], digest=digest(mutant))
            failed = [
                line.partition(" ")[2].split(" - ")[0]
                for line in lines
                if line.startswith(("FAILED tests/", "ERROR tests/"))
            ]
            if done.returncode != 1 or not failed:
                raise RuntimeError(
                    f"pytest ended with {done.returncode} on {mutant.name}: {lines[-1]}\n{done.stderr[-2000:]}"
                )
            # On a busy machine a test may be late: it has found the mutant if it fails alone too.
            if pytest(folder, failed[0]).returncode != 0:
                return Row(verdict="found", tests=failed[0], digest=digest(mutant))
            late.append(failed[0])


def pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants; default: those without a row that is still true")
    names = parser.parse_args().names or [
        name for name, one in MUTANTS.items() if (row := read().get(name)) is None or row.digest != digest(one)
    ]
    for name in names:
        began = time.monotonic()
        try:
            row = check(MUTANTS[name])
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"{name:<26} {error}", flush=True)
            continue
        table = {**read(), name: row}
        TABLE.write_bytes(msgspec.json.format(msgspec.json.encode(dict(sorted(table.items()))), indent=2) + b"\n")
        print(f"{name:<26} {row.verdict:<7} {time.monotonic() - began:5.0f} s  {row.tests}", flush=True)


if __name__ == "__main__":
    main()
