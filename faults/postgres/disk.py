"""A small disk for a server's data: a file system of its own in memory, which a ballast can fill to the last byte."""

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from duress.faults.postgres.account import Account
from duress.faults.postgres.errors import NoPlace
from duress.faults.postgres.guardian import unmount

SIZE: Final = 192 * 2**20  # bytes
BALLAST: Final = "ballast"
BLOCK: Final = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)


def mount(folder: Path, account: Account | None, size: int = SIZE) -> None:
    """Mount an empty file system of `size` bytes on an empty folder. Raises NoPlace where this user may not."""
    owner = f",uid={account.uid},gid={account.gid}" if account else ""
    options = f"size={size},mode=0700{owner}"
    if _libc.mount(b"duress", os.fsencode(folder), b"tmpfs", 0, options.encode()) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise NoPlace(f"cannot mount a small file system on {folder}: {reason}; run as root, or leave disk-full out")


def why_not() -> str:
    """Why this user may not mount one; empty if it may. Tried, in a folder that goes at once."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="small-disk-") as name:
        try:
            mount(Path(name), None, 1 << 20)
        except NoPlace as error:
            return str(error)
        unmount(name)
    return ""


def fill(data_directory: Path) -> int:
    """Take what space is left in the file system of the server's data; returns how many bytes that were."""
    taken = 0
    with (data_directory / BALLAST).open("ab", buffering=0) as ballast:
        block = BLOCK
        while block:
            try:
                taken += ballast.write(b"\0" * block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                block //= 2
    return taken


def empty(data_directory: Path) -> None:
    """Give the space back."""
    with contextlib.suppress(FileNotFoundError):
        (data_directory / BALLAST).unlink()
