"""Replacing functions for as long as a run lasts, wherever they have been imported to, and putting everything back.

The replacements are made once and behave like the originals outside of a run: one that somebody kept does no harm.
"""

import ctypes
import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

_OURS: Final = __name__.rpartition(".")[0] + "."

Table = Mapping[Any, Any]  # original -> replacement

# Where originals and replacements were found, by the module's namespace: its size then, itself, names. A walk over
# everything takes some ms, this almost nothing. It holds for one table.
_known: Final[dict[int, tuple[int, dict[str, Any], list[str]]]] = {}
_known_for: Final[set[int]] = set()


@contextmanager
def rebound(table: Table) -> Iterator[None]:
    """Every name in every module that means a key of the table means its value, also in modules imported meanwhile."""
    forth = {id(original): replacement for original, replacement in table.items()}
    back = {id(replacement): original for original, replacement in table.items()}
    if _known_for != forth.keys():
        _known.clear()
        _known_for.clear()
        _known_for.update(forth)
    meant = {(id(space), name) for space, name in _places(forth, back) if id(space[name]) in back}
    for space, name in _places(forth, back):
        space[name] = forth.get(id(space[name]), space[name])
    try:
        yield
    finally:
        for space, name in _places(forth, back):
            if (id(space), name) not in meant:  # by somebody who wanted the replacement itself
                space[name] = back.get(id(space[name]), space[name])


def _places(forth: Mapping[int, Any], back: Mapping[int, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where modules hold originals or replacements, except in our own, which know what they mean."""
    for module_name, module in list(sys.modules.items()):
        # Anything may be put there, and not everything likes to be asked.
        if module_name.startswith(_OURS) or not issubclass(type(module), ModuleType):
            continue
        space = object.__getattribute__(module, "__dict__")
        known = _known.get(id(space))
        if known is None or known[0] != len(space) or known[1] is not space:
            names = [name for name, value in list(space.items()) if id(value) in forth or id(value) in back]
            _known[id(space)] = known = (len(space), space, names)
        for name in known[2]:
            if name in space:
                yield space, name


@contextmanager
def attributes(replacements: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """`(owner, name, replacement)`: methods of classes that are written in Python, and functions of modules."""
    originals = [(owner, name, vars(owner)[name]) for owner, name, _ in replacements]
    try:
        for owner, name, replacement in replacements:
            setattr(owner, name, replacement)
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


@contextmanager
def type_attributes(owner: type, replacements: Mapping[str, Any]) -> Iterator[None]:
    """Methods of a class that is written in C and cannot be changed by setattr.

    Its dictionary is reached through the garbage collector, and the interpreter told to forget what it had looked up. A
    subclass in its place would not do: what `import`ed names, annotations and `type(x) is datetime` mean must not change.
    """
    space = gc.get_referents(owner.__dict__)[0]
    originals = {name: space[name] for name in replacements}
    try:
        space.update(replacements)
        _forget_lookups(owner)
        yield
    finally:
        space.update(originals)
        _forget_lookups(owner)


def _forget_lookups(owner: type) -> None:
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))
