"""Where a server's files go: memory-backed storage when it has room, else a temporary folder, or where we are told.

Also finds what a guardian that was itself killed has left behind.
"""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from signal import SIGKILL

from duress.faults.postgres.account import Account
from duress.faults.postgres.errors import NoPlace
from duress.faults.postgres.guardian import FOLDER_PREFIX, LOCK_NAME, free_shared_memory, unmount

DIRECTORY_VARIABLE = "DURESS_POSTGRES_DIRECTORY"
MEMORY = Path("/dev/shm")
LONGEST_SOCKET_PATH = 107  # bytes: sun_path less its final zero
YOUNG_S = 60.0  # a folder without a lock may be one that is being made
HOW_TO_CHOOSE = f"Name another folder in {DIRECTORY_VARIABLE} (or TMPDIR, or `directory=`)."


def choose_base(needed: int, account: Account | None, *, memory: bool, directory: Path | None = None) -> Path:
    """The folder to make ours in: `directory`, else DURESS_POSTGRES_DIRECTORY, else the first with `needed` bytes free.

    Raises NoPlace naming each folder that was looked at and what is wrong with it.
    """
    named = directory or (Path(value) if (value := os.environ.get(DIRECTORY_VARIABLE)) else None)
    candidates = [named] if named else [*([MEMORY] if memory else []), *_temporary()]
    refused = []
    for candidate in candidates:
        wrong = _what_is_wrong(candidate, needed, account)
        if not wrong:
            return candidate.absolute()
        refused.append(f"{candidate}: {wrong}")
    raise NoPlace(f"No folder for PostgreSQL's files. {'; '.join(refused)}. {HOW_TO_CHOOSE}")


def choose_socket_base(folder: Path, account: Account | None) -> Path | None:
    """Where a socket's folder goes: None when `folder` itself will do, else one with a shorter path."""
    if _fits(folder):
        return None
    for candidate in (*_temporary(), Path("/tmp"), MEMORY):
        example = candidate / f"{FOLDER_PREFIX}xxxxxxxx"
        if _fits(example) and not _what_is_wrong(candidate, 0, account):
            return candidate
    raise NoPlace(
        f"The path of PostgreSQL's socket in {folder} would be longer than {LONGEST_SOCKET_PATH} bytes, "
        f"and no shorter folder can be written to. {HOW_TO_CHOOSE}"
    )


def choose_program_bases() -> list[Path]:
    """Where copies of programs may be run from; memory-backed storage often forbids that (noexec)."""
    return _temporary()


def remove_leftovers() -> list[Path]:
    """Remove folders whose guardian was killed before it could; those removed. Never touches a living server's.

    Their servers have ended with the guardian, unless they were stopped (SIGSTOP) then: those are killed here.
    """
    removed = []
    for base in {MEMORY, *_temporary()}:
        for folder in base.glob(f"{FOLDER_PREFIX}*"):
            if _is_left_over(folder):
                _kill_what_works_in(folder)
                free_shared_memory(os.fspath(folder / "data" / "postmaster.pid"))
                unmount(os.fspath(folder / "data"))
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def _temporary() -> list[Path]:
    return list(dict.fromkeys((Path(tempfile.gettempdir()), Path("/var/tmp"))))


def _fits(folder: Path) -> bool:
    longest = os.fsencode(folder / "socket" / ".s.PGSQL.65535.lock")
    # PostgreSQL splits its list of socket folders at commas.
    return len(longest) <= LONGEST_SOCKET_PATH and b"," not in longest and b'"' not in longest


def _what_is_wrong(folder: Path, needed: int, account: Account | None) -> str:
    if not folder.is_dir():
        return "no such folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "not writable"
    if account and not account.can_enter(folder):
        return f"user {account.name!r}, whom PostgreSQL runs as here, may not enter it"
    free = shutil.disk_usage(folder).free
    if free < needed:
        return f"{free // 2**20} MB free, {needed // 2**20} MB needed"
    return ""


def _is_left_over(folder: Path) -> bool:
    """Whether a folder is ours, and the lock that its guardian holds while it lives is free."""
    try:
        about = folder.lstat()
        if about.st_uid != os.geteuid() or folder.is_symlink() or not folder.is_dir():
            return False
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        # One of ours whose guardian was killed while it made it holds nothing else; another's may be called so too.
        made = set(os.listdir(folder)) <= {f"{LOCK_NAME}.new"}
        return made and time.time() - about.st_mtime > YOUNG_S
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _kill_what_works_in(folder: Path) -> None:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                os.kill(int(process.name), SIGKILL)
        except OSError:  # gone meanwhile, or not ours to look at
            continue
