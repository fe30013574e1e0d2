"""Files and functions stay small enough to be seen whole: one that outgrew that has two jobs."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("duress", "engine", "simulator", "faults", "scenarios", "reports", "benchmarks")
FILE_LINES = 420
FUNCTION_LINES = 74


def sources(*suffixes: str) -> list[Path]:
    """Our files; the links inside duress/ lead to folders that are listed themselves."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return sorted(path for path in found if path.resolve() == path)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_a_file_can_be_read_at_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(".py", ".sql", ".html", ".css")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES
    }
    assert long == {}


def test_a_function_can_be_seen_whole() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path in sources(".py")
        for function in functions(path)
        if function.end_lineno and function.end_lineno - function.lineno >= FUNCTION_LINES
    ]
    assert long == []
