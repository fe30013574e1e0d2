"""What can undo an injection from outside, when the harness that injected it is gone.

Nothing here is done to a process unless it is the very one that was written down: its start time is compared.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

PROC = Path("/proc")
# What a journal may ask to be run. It is a file that anybody with our rights may have written, so nothing else is.
PROGRAMS: Final = frozenset({"nft", "iptables", "ip6tables", "ip", "tc"})
SYSTEM_FOLDERS: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM_BOUND = 10.0  # seconds for one command


class ProcessId(msgspec.Struct, frozen=True, kw_only=True):
    """A process, told apart from a later one with the same number."""

    pid: int
    start_time: int  # clock ticks from boot to its start (field 22 of /proc/<pid>/stat, proc_pid_stat(5))

    def lives(self) -> bool:
        """Whether it runs or is stopped; a zombie does not live."""
        stat = _stat(self.pid)
        return stat is not None and int(stat[19]) == self.start_time and stat[0] not in "ZX"


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """SIGCONT to each."""

    processes: tuple[ProcessId, ...]


class End(msgspec.Struct, frozen=True, tag="end"):
    """SIGKILL to each: they served the harness only."""

    processes: tuple[ProcessId, ...]


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Run a command that takes back a rule of the kernel; one of `PROGRAMS`, without a shell."""

    argv: tuple[str, ...]


Deed = Resume | End | Run


class NotUndone(Exception):
    """Something could not be undone; the message says what, and what would help."""


def do(deed: Deed, why: str) -> Iterator[str]:
    """Undo; a sentence for each thing done. Raises NotUndone."""
    match deed:
        case Resume(processes=processes):
            for process in processes:
                if _send(process, signal.SIGCONT):
                    yield f"sent SIGCONT to process {process.pid}, which a harness that is gone had stopped ({why})"
        case End(processes=processes):
            for process in processes:
                if _send(process, signal.SIGKILL):
                    yield f"ended process {process.pid}, which a harness that is gone had started ({why})"
        case Run(argv=argv):
            yield _run(argv, why)


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now."""
    stat = _stat(pid)
    return None if stat is None else ProcessId(pid=pid, start_time=int(stat[19]))


def group(pgid: int) -> tuple[ProcessId, ...]:
    """The processes of a process group that live."""
    return _all_whose(2, pgid)


def children(pid: int) -> tuple[ProcessId, ...]:
    """The children of a process that live."""
    return _all_whose(1, pid)


def boot() -> str:
    """What tells this run of the kernel from an earlier one."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _all_whose(field: int, value: int) -> tuple[ProcessId, ...]:
    return tuple(
        ProcessId(pid=pid, start_time=int(stat[19]))
        for pid in sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
        if (stat := _stat(pid)) is not None and int(stat[field]) == value and stat[0] not in "ZX"
    )


def _send(process: ProcessId, number: signal.Signals) -> bool:
    """Signal the process; False if it is gone."""
    if not process.lives():
        return False
    try:
        os.kill(process.pid, number)
    except PermissionError:
        raise NotUndone(f"may not signal process {process.pid}; run this as the user that ran the harness") from None
    except ProcessLookupError:
        return False  # it ended just now
    return True


def _run(argv: tuple[str, ...], why: str) -> str:
    command = " ".join(argv)
    if not argv or argv[0] not in PROGRAMS:
        raise NotUndone(f"will not run {command!r}: only {', '.join(sorted(PROGRAMS))} are run from a journal")
    try:
        done = subprocess.run(
            argv,
            env={"PATH": SYSTEM_FOLDERS, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=PROGRAM_BOUND,
            check=False,
        )
    except FileNotFoundError:
        raise NotUndone(f"cannot run {command!r}: {argv[0]} is not installed any more") from None
    if done.returncode == 0:
        return f"ran {command!r} for a harness that is gone ({why})"
    said = done.stderr.strip() or f"exit status {done.returncode}"
    if "No such" in said or "does not exist" in said or "Cannot find" in said:
        return f"nothing is left to undo by {command!r} ({why})"
    raise NotUndone(f"{command!r} failed: {said}; run this as root")


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third on: [0] is the state, [1] the parent, [2] the group, [19] the start time."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()  # the second field is the command's name, which may contain anything
