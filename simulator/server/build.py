"""Compiles the control library; used when the package is built and, where it was not, when it is first needed.

Standard library only, and nothing of duress: the package's own build loads this file before duress is there.
"""

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "native"
COMPILERS: Final = ("cc", "gcc", "clang")
OPTIONS: Final = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden", "-shared", "-fPIC")
OLDEST_GLIBC: Final = "2.17"  # that a library compiled by zig, which brings its own, will do with
HOW_TO_GET: Final = "install a C compiler (Debian: apt-get install gcc), or `pip install ziglang`"


class CompileError(Exception):
    """There is no compiler, or it refused our source; the text is its own."""


def why_not_here() -> str:
    """Why this machine cannot have the library at all; empty where it can."""
    if not sys.platform.startswith("linux"):
        return f"it needs Linux, and this is {platform.system()}"
    libc = platform.libc_ver()[0]
    return "" if libc == "glibc" else f"it needs the GNU C library (glibc), and this Python uses {libc or 'another'}"


def find_compiler() -> list[str] | None:
    """The command that compiles C: $CC, the system's, or that of the ziglang wheel; None where there is none."""
    if chosen := shlex.split(os.environ.get("CC", "")):
        return chosen
    for name in COMPILERS:
        if found := shutil.which(name):
            return [found]
    if not importlib.util.find_spec("ziglang"):
        return None
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{platform.machine()}-linux-gnu.{OLDEST_GLIBC}"]


def library_name() -> str:
    """The library's file name, which changes with its source: what bears another name is stale."""
    digest = hashlib.sha256(" ".join(OPTIONS).encode())
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".c", ".h"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"control-{digest.hexdigest()[:12]}-{platform.machine()}.so"


def compile_library(folder: Path) -> Path:
    """Compile into `folder` and return the library's path. Raises CompileError."""
    compiler = find_compiler()
    if compiler is None:
        raise CompileError(f"there is no C compiler ({', '.join(COMPILERS)}) on PATH: {HOW_TO_GET}")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / library_name()
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    command = [*compiler, *OPTIONS, "-o", str(unfinished), *map(str, sorted(SOURCES.glob("*.c"))), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CompileError(f"`{shlex.join(command)}` cannot be run: {error}. Set CC, or {HOW_TO_GET}") from error
    if done.returncode:
        raise CompileError(f"`{shlex.join(command)}` ended with status {done.returncode}:\n{done.stderr.strip()}")
    unfinished.replace(target)  # at once: another process may be looking for it
    return target
