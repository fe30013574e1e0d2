"""Broken variants of our own source, made on the way in: textual substitutions that must each match exactly once.

Python modules are changed as they are imported, SQL files as they are migrated; nothing on disk changes. A process that
is to run a variant applies it before it imports what the variant changes.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import CodeType, ModuleType
from typing import Any, Final

PACKAGE: Final = "duress"
MIGRATED: Final = "engine/sql"


class SubstitutionError(Exception):
    """A substitution does not fit the source, or comes too late; the message names the file and the text."""


@dataclass(frozen=True, slots=True)
class Substitution:
    """Put `new` in the place of `old`, which must occur exactly once in `file` (a path below the package)."""

    file: str
    old: str
    new: str

    @property
    def module(self) -> str | None:
        """The module that the file is; None for SQL."""
        path = PurePosixPath(self.file)
        return ".".join((PACKAGE, *path.with_suffix("").parts)) if path.suffix == ".py" else None

    def apply(self, text: str) -> str:
        """The text with the substitution made. Raises SubstitutionError unless `old` occurs exactly once."""
        count = text.count(self.old)
        if count != 1:
            raise SubstitutionError(
                f"{self.file}: a substitution matches {count} times and must match once: {self.old!r}. The source has"
                " changed; change the substitution with it"
            )
        return text.replace(self.old, self.new)

    @property
    def changed_lines(self) -> int:
        """How many lines differ, counted on the longer side."""
        old, new = self.old.splitlines(), self.new.splitlines()
        while old and new and old[0] == new[0]:
            old, new = old[1:], new[1:]
        while old and new and old[-1] == new[-1]:
            old, new = old[:-1], new[:-1]
        return max(len(old), len(new))


def source(file: str) -> str:
    """The text of a file below the package, as installed. Imports nothing of what it may be about to change."""
    folder, _, rest = file.partition("/")
    spec = importlib.util.find_spec(f"{PACKAGE}.{folder}")
    if spec is None or not spec.submodule_search_locations:
        raise SubstitutionError(f"{file}: there is no package {PACKAGE}.{folder}")
    return Path(spec.submodule_search_locations[0], rest).read_text(encoding="utf-8")


def mutated(file: str, substitutions: Iterable[Substitution]) -> str:
    """The text of a file with those of the substitutions made that are for it."""
    text = source(file)
    for one in substitutions:
        if one.file == file:
            text = one.apply(text)
    return text


def install(substitutions: Sequence[Substitution]) -> None:
    """From now on, import the modules that are changed in their changed form.

    Raises SubstitutionError if one of them was imported already, or if a substitution does not fit.
    """
    modules = {one.module: one.file for one in substitutions if one.module is not None}
    for module, file in modules.items():
        if module in sys.modules:
            raise SubstitutionError(f"{module} was imported before its variant was applied: apply the variant first")
        ast.parse(mutated(file, substitutions), file)
    if modules:
        sys.meta_path.insert(0, _Finder({name: mutated(file, substitutions) for name, file in modules.items()}))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the changed modules before anybody else does."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._texts:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _Loader(fullname, spec.origin, self._texts[fullname])
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from a text; nothing is cached."""

    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self._text = text

    def get_source(self, fullname: str) -> str:
        return self._text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


async def migrate_mutated(connection: Any, schema: str, substitutions: Sequence[Substitution]) -> None:
    """Make the schema again, from the migrations with the substitutions made; whatever was in it is gone.

    `connection` is a psycopg AsyncConnection in autocommit mode.
    """
    if all(one.module is not None for one in substitutions):
        return
    from duress.engine import migrations

    with _changed_migrations(migrations, substitutions):
        await connection.execute(f"drop schema if exists {migrations.check_schema_name(schema)} cascade".encode())
        await migrations.migrate(connection, schema)


@contextmanager
def _changed_migrations(module: Any, substitutions: Sequence[Substitution]) -> Iterator[None]:
    original = module.migrations
    changed = tuple(
        replace(one, text=mutated(f"{MIGRATED}/{one.version:04}_{one.name}.sql", substitutions)) for one in original()
    )
    module.migrations = lambda: changed
    try:
        yield
    finally:
        module.migrations = original
