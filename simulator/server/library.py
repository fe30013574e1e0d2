"""The control library: found beside this file, or compiled on first use into a cache folder, and loaded here too.

The server loads it to be controlled; this process calls two functions of it, which touch the page as its C side does.
"""

import atexit
import ctypes
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final, Protocol

from duress.simulator.server import build
from duress.simulator.server.errors import HarnessError, SimUnavailable

CACHE_VARIABLE: Final = "XDG_CACHE_HOME"
BESIDE: Final = Path(__file__).parent  # where the built package has it


class Library(Protocol):
    """What this process calls in the library."""

    def control_grant(self, slot: object) -> None: ...

    def control_release(self, header: object, slot: object) -> None: ...


@functools.cache
def library_path() -> Path:
    """The library that fits the source at hand. Raises SimUnavailable, which names the compiler's error."""
    if wrong := build.why_not_here():
        raise SimUnavailable(f"The simulator controls PostgreSQL through a preloaded library: {wrong}.")
    name = build.library_name()
    cache = _cache_folder()
    for folder in (BESIDE, cache):
        if (folder / name).is_file() and (folder == BESIDE or _is_safe(folder)):
            return folder / name
    try:
        return build.compile_library(cache if _is_safe(cache) else _folder_of_our_own())
    except build.CompileError as error:
        raise SimUnavailable(f"The simulator's library for PostgreSQL could not be compiled: {error}") from error


def preloading(library: Path) -> dict[str, str]:
    """The environment in which a program loads it first.

    The loader takes spaces in LD_PRELOAD for separators, so a path with one is told in two parts (ld.so(8)).
    """
    if " " not in str(library):
        return {"LD_PRELOAD": str(library)}
    return {"LD_PRELOAD": library.name, "LD_LIBRARY_PATH": str(library.parent)}


@functools.cache
def load_library() -> Library:
    """The library, loaded into this process for the functions it has for us."""
    library = ctypes.CDLL(str(library_path()))
    library.control_grant.argtypes = [ctypes.c_void_p]
    library.control_grant.restype = None
    library.control_release.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.control_release.restype = None
    return library


def _cache_folder() -> Path:
    home = os.environ.get(CACHE_VARIABLE) or "~/.cache"
    return Path(home).expanduser() / "duress"


@functools.cache
def _folder_of_our_own() -> Path:
    """For this process alone, where no cache can be trusted; removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="duress-control-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_safe(folder: Path) -> bool:
    """Whether the folder is, or can be made, one that only we write to: what lies there is loaded and run."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        about = folder.stat()
    except OSError:
        return False
    return about.st_uid == os.geteuid() and not about.st_mode & 0o022 and os.access(folder, os.W_OK)


def follow_clock(page: Path) -> ctypes.c_int64:
    """Make a page's clock this process's wall clock (time.time, datetime.now, and whatever else asks the system).

    This process must have been started with the library in LD_PRELOAD. Returns what is added to the clock, in µs: the
    offset of the simulated process whose turn it is. The monotonic clock stays real.
    """
    preloaded = ctypes.CDLL(None)
    if not hasattr(preloaded, "control_follow"):
        raise HarnessError(f"this process was not started with LD_PRELOAD={library_path()}: its wall clock stays real")
    if preloaded.control_follow(os.fsencode(page)) != 0:
        raise HarnessError(f"{page} cannot be mapped: its clock cannot be followed")
    return ctypes.c_int64.in_dll(preloaded, "control_offset_us")
