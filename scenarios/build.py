"""Which sources a campaign ran, as one short digest: shards of one campaign must agree in it, a baseline need not."""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from duress.scenarios.spec import Scenario

_SOURCES = frozenset({".py", ".sql", ".c", ".h"})


def digest(scenario: Scenario) -> str:
    """Twelve hexadecimal digits over the sources of duress and the scenario's module."""
    found = hashlib.sha256(_of_duress())
    spec = importlib.util.find_spec(scenario.module)
    if spec is not None and spec.origin is not None and Path(spec.origin).is_file():
        found.update(Path(spec.origin).read_bytes())
    return found.hexdigest()[:12]


@cache
def _of_duress() -> bytes:
    found = hashlib.sha256()
    package = importlib.util.find_spec("duress")
    assert package is not None and package.origin is not None
    # Subpackages are links in a checkout and folders in a wheel; both must give one digest.
    for folder in sorted(Path(package.origin).parent.iterdir()):
        if folder.is_file() and folder.suffix in _SOURCES:
            found.update(folder.name.encode() + b"\0" + folder.read_bytes())
        elif folder.is_dir():
            top = folder.resolve()
            for file in sorted(file for file in top.rglob("*") if file.suffix in _SOURCES):
                found.update(f"{folder.name}/{file.relative_to(top).as_posix()}\0".encode() + file.read_bytes())
    return found.digest()
