"""What some kinds of faults need of the machine, in worlds of real processes; what is missing is said by name."""

import functools
import glob
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from duress.faults.postgres import ServerError, disk, find_binaries

LIBFAKETIME: Final = (
    "/usr/lib/*/faketime/libfaketime.so.1",
    "/usr/lib*/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
)
CAP_NET_ADMIN: Final = 12  # linux/capability.h
SYSTEM_FOLDERS: Final = "/usr/sbin:/sbin:/usr/local/sbin"


@functools.cache
def lacking(kind: str) -> str:
    """Why faults of this kind cannot be had on this machine, and what would help; empty if they can."""
    look = NEEDS.get(kind)
    return look() if look else ""


def find_program(name: str) -> str | None:
    """A program on PATH, or where only root's PATH leads."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_FOLDERS)


def find_libfaketime() -> Path | None:
    """The library that gives a process another clock; None where it is not installed."""
    found = [Path(match) for pattern in LIBFAKETIME for match in sorted(glob.glob(pattern))]
    return found[0] if found else None


def may(capability: int) -> bool:
    """Whether this process has a capability of the kernel's (capabilities(7))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> capability & 1)
    return False


def no_standby() -> str:
    """Why no standby can be made; empty if one can."""
    try:
        find_binaries().program("pg_basebackup")
    except ServerError as error:
        return str(error)
    return ""


def no_libfaketime() -> str:
    return "" if find_libfaketime() else "libfaketime is not installed (Debian: apt-get install libfaketime)"


def no_pooler() -> str:
    return "" if find_program("pgbouncer") else "PgBouncer is not installed (Debian: apt-get install pgbouncer)"


def no_dropping() -> str:
    """Why the kernel cannot be told to drop packets; empty if it can."""
    if not may(CAP_NET_ADMIN):
        return "dropping packets needs root (CAP_NET_ADMIN): run as root, or let them be withheld"
    if find_program("nft") is None:
        return "dropping packets needs nft (Debian: apt-get install nftables), or let them be withheld"
    return ""


NEEDS: Final[Mapping[str, Callable[[], str]]] = {
    "failover": no_standby,
    "disk-full": disk.why_not,
    "clock-skew": no_libfaketime,
    "clock-jump": no_libfaketime,
    "pooler": no_pooler,
}
