"""A digest of the code that a simulated run runs: when it is the same, so must be the run.

It is over our own sources, those of the user's modules (whatever is loaded and was not installed), and the versions of
what we stand on: Python, psycopg, msgspec and PostgreSQL.
"""

import platform
import sys
import sysconfig
from collections.abc import Iterator
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Final

OURS: Final = ("engine", "faults", "scenarios", "simulator")
SOURCES: Final = frozenset({".py", ".sql", ".c", ".h"})
INSTALLED: Final = ("stdlib", "platstdlib", "purelib", "platlib")  # where modules lie that are nobody's own
BELOW: Final = ("psycopg", "msgspec")  # what they do enters the bytes of a run


def fingerprint(postgres: str) -> str:
    """In hexadecimal. `postgres` is the server's version."""
    digest = blake2b(digest_size=8)
    for name, path in [*_own(), *_loaded()]:
        digest.update(f"{name}\0".encode() + blake2b(path.read_bytes(), digest_size=8).digest())
    versions = [f"{package} {metadata.version(package)}" for package in BELOW]
    digest.update("\0".join([*versions, platform.python_version(), postgres]).encode())
    return digest.hexdigest()


def _own() -> Iterator[tuple[str, Path]]:
    """The parts of this package that a run can depend on."""
    root = Path(sys.modules["duress"].__path__[0])
    for folder in OURS:
        found = (path for path in (root / folder).rglob("*") if path.suffix in SOURCES)
        yield from sorted((f"{folder}/{path.relative_to(root / folder)}", path) for path in found)


def _loaded() -> Iterator[tuple[str, Path]]:
    """The user's modules: a scenario's own, and what that imports beside installed packages."""
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in INSTALLED]
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name == "__main__" or name.partition(".")[0] == "duress":
            continue
        path = Path(file).resolve()
        if path.suffix == ".py" and path.is_file() and not any(path.is_relative_to(folder) for folder in installed):
            yield name, path
