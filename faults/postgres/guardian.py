"""The guardian: a program that ends a private PostgreSQL and removes its folders as soon as its owner is gone.

It is the parent of every process of the server, lives in a session of its own (Ctrl-C does not reach it) and holds one
end of a socket pair. The owner asks for one thing at a time, a JSON object a line, and gets one line back. When the
other end closes, whatever ended the owner, SIGKILL included, or when anything arrives while a request is under way, all
is ended and removed. If the guardian itself is killed, the kernel stops the postmaster (PR_SET_PDEATHSIG: safe here,
because the guardian has one thread); the folders then go with the owner's `close`, or at the next start of any server.

Standard library only, and none of duress: it starts in some 50 ms and must run when all else is broken.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, Final, NoReturn

FOLDER_PREFIX: Final = "duress-"
LOCK_NAME: Final = "lock"
OWNER_CHECK_S: Final = 0.25  # a forked child of the owner may hold the socket open: then only our parent's id tells
QUIT_S: Final = 0.4  # how long the postmaster may take to end in order, which also frees its shared memory
PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
IPC_RMID: Final = 0
MNT_DETACH: Final = 2
SEGMENT_PREFIX: Final = "/dev/shm/PostgreSQL."

libc = ctypes.CDLL(None, use_errno=True)


class OwnerGone(BaseException):
    """The owner has closed the channel, ended, or interrupted a request: end everything."""


class Guardian:
    """Serves one owner until it is gone."""

    def __init__(self, channel: socket.socket, owner: int, wakeups: int) -> None:
        self.channel = channel
        self.owner = owner
        self.wakeups = wakeups
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self.folders: list[str] = []
        self.locks: list[int] = []
        self.ending = False

    def serve(self) -> None:
        """Answer requests until the owner is gone; raises OwnerGone."""
        received = b""
        while True:
            while b"\n" not in received:
                self.pause(None, owner_may_speak=True)
                chunk = self.channel.recv(65536)
                if not chunk:
                    raise OwnerGone
                received += chunk
            line, received = received.split(b"\n", 1)
            try:
                answer = self.answer(json.loads(line))
            except OSError as error:
                answer = {"error": str(error), "errno": error.errno}
            except (subprocess.SubprocessError, ValueError, KeyError, LookupError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            self.channel.sendall(json.dumps(answer).encode() + b"\n")

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do one thing for the owner."""
        match request["do"]:
            case "folder":
                return {"folder": self.make_folder(request["base"])}
            case "start":
                return {"pid": self.start(request)}
            case "wait":
                return {"status": self.wait(request["pid"], request["timeout"])}
            case "signal":
                return {"sent": self.signal(request["pid"], request["signal"])}
            case "settle":
                self.settle(request["timeout"])
                return {}
            case other:
                raise ValueError(f"unknown request {other!r}")

    def make_folder(self, base: str) -> str:
        """Make a folder that is ours to remove; its lock says to everybody else that we still live."""
        folder = tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base)
        self.folders.append(folder)
        path = os.path.join(folder, LOCK_NAME)
        lock = os.open(f"{path}.new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(f"{path}.new", path)  # so that nobody ever finds it unlocked while we live
        self.locks.append(lock)
        return folder

    def start(self, request: dict[str, Any]) -> int:
        """Start a program with its output appended to a log; it ends when we end."""
        end_signal = int(request["end_signal"])
        guardian = os.getpid()

        def end_with_guardian() -> None:
            libc.prctl(PR_SET_PDEATHSIG, end_signal)
            if os.getppid() != guardian:
                os.kill(os.getpid(), signal.SIGKILL)

        with open(request["log"], "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
            child = subprocess.Popen(
                request["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=request["cwd"],
                env=request["environment"],
                user=request["uid"],
                group=request["gid"],
                extra_groups=None if request["uid"] is None else [],
                start_new_session=True,
                # Runs after the change of user, which would have cleared the setting. One thread here, so it is safe.
                preexec_fn=end_with_guardian,  # noqa: PLW1509
            )
        self.children[child.pid] = child
        return child.pid

    def wait(self, pid: int, timeout: float) -> int | None:
        """The exit status of a child (negative: the signal that ended it), or None when it still runs."""
        child = self.children[pid]
        deadline = time.monotonic() + timeout
        while child.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.pause(left, owner_may_speak=False)
        return child.returncode

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal to a child, never to a stranger that got its number."""
        child = self.children[pid]
        if child.poll() is not None:
            return False
        child.send_signal(number)
        return True

    def settle(self, timeout: float) -> None:
        """Wait until no process of the server is left; kill what remains after `timeout` s."""
        deadline = time.monotonic() + timeout
        while left := self.reap_and_list():
            if time.monotonic() > deadline:
                for pid in left:
                    send(pid, signal.SIGKILL)
            self.pause(0.01, owner_may_speak=False)

    def pause(self, timeout: float | None, *, owner_may_speak: bool) -> None:
        """Sleep until something happens; raises OwnerGone when the owner is gone or speaks out of turn."""
        channel = self.channel.fileno()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = OWNER_CHECK_S if deadline is None else min(OWNER_CHECK_S, max(0.0, deadline - time.monotonic()))
            ready, _, _ = select.select([channel, self.wakeups], [], [], left)
            if self.ending or os.getppid() != self.owner:
                raise OwnerGone
            if channel in ready:
                if owner_may_speak:
                    return
                raise OwnerGone
            if self.wakeups in ready:
                os.read(self.wakeups, 4096)
                if not owner_may_speak:
                    return
            if deadline is not None and time.monotonic() >= deadline:
                return

    def reap_and_list(self) -> list[int]:
        """Collect the dead among our descendants and list the living. Orphans come to us: we are their subreaper."""
        for child in self.children.values():
            child.poll()
        parents = parents_of_all()
        family = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        family.discard(os.getpid())
        living = []
        for pid in family:
            if parents[pid] == os.getpid() and pid not in self.children:
                try:
                    if os.waitpid(pid, os.WNOHANG)[0] == pid:
                        continue
                except ChildProcessError:
                    continue
            if pid not in self.children or self.children[pid].returncode is None:
                living.append(pid)
        return living

    def end_all(self) -> None:
        """End every process of the server: in order if it is quick, by force otherwise."""
        deadline = time.monotonic() + QUIT_S
        for pid, child in self.children.items():
            if child.poll() is None:
                send(pid, signal.SIGQUIT)
        for child in self.children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
        # What initdb ran ends by itself when initdb is gone, and frees its shared memory only then.
        while self.reap_and_list() and time.monotonic() < deadline:
            time.sleep(0.05)
        segments: set[str] = set()
        while left := self.reap_and_list():
            for pid in left:
                segments |= named_segments(pid)
                send(pid, signal.SIGKILL)
            time.sleep(0.01)
        for segment in segments:
            with contextlib.suppress(OSError):
                os.unlink(segment)

    def remove_all(self) -> None:
        """Remove the folders, and the shared memory of a postmaster that could not do it."""
        for folder in self.folders:
            free_shared_memory(os.path.join(folder, "data", "postmaster.pid"))
            unmount(os.path.join(folder, "data"))
            shutil.rmtree(folder, ignore_errors=True)


def parents_of_all() -> dict[int, int]:
    """Every process and its parent."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The name in parentheses may itself hold spaces and parentheses.
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    return parents


def named_segments(pid: int) -> set[str]:
    """PostgreSQL's shared memory files that a process has mapped, and that nobody removes if it is killed."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            mapped = (os.fsdecode(line.split()[-1]) for line in file)
            return {path for path in mapped if path.startswith(SEGMENT_PREFIX)}
    except OSError:
        return set()


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def free_shared_memory(pid_file: str) -> None:
    """Remove the System V segment named in a postmaster.pid that was left behind."""
    try:
        with open(pid_file, encoding="utf-8", errors="replace") as file:
            segment = int(file.read().splitlines()[6].split()[1])
    except (OSError, IndexError, ValueError):
        return
    libc.shmctl(segment, IPC_RMID, None)


def unmount(folder: str) -> None:
    """Take away a file system that was mounted there, if there is one: a server's data may lie on a small disk."""
    libc.umount2(os.fsencode(folder), MNT_DETACH)


def main() -> NoReturn:
    """Serve the owner named on the command line over standard input, then end everything."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    guardian = Guardian(socket.socket(fileno=0), int(sys.argv[1]), reading)

    def end(number: int, frame: object) -> None:
        guardian.ending = True

    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        guardian.serve()
    except (OwnerGone, OSError):
        pass  # gone, or gone while we answered
    finally:
        guardian.end_all()
        guardian.remove_all()
        os._exit(0)


if __name__ == "__main__":
    main()
