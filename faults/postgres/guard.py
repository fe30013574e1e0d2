"""The owner's side of the guardian: start it, ask it for things, let it end everything."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Any

from duress.faults.postgres import guardian
from duress.faults.postgres.account import Account
from duress.faults.postgres.errors import GuardianLost, ServerError

REMOVE_S = 2.0


class Guard:
    """A running guardian. It ends all that it started when `close` is called or when this process is gone."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # Isolated and without site-packages: nothing of the user's environment can slow it down or break it.
                [sys.executable, "-I", "-S", guardian.__file__, str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
            )
        self._channel = ours
        self._replies = ours.makefile("rb")
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._lost = False
        self._folders: list[Path] = []

    @property
    def pid(self) -> int:
        """The guardian's process id."""
        pid: int = self._process.pid
        return pid

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that go with it."""
        return tuple(self._folders)

    def make_folder(self, base: Path) -> Path:
        """A new folder in `base` that is removed with everything else."""
        folder = Path(self._ask({"do": "folder", "base": os.fspath(base)})["folder"])
        self._folders.append(folder)
        return folder

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        account: Account | None,
        environment: Mapping[str, str],
        end_signal: Signals,
    ) -> int:
        """Start a program as `account`; `end_signal` is what it gets if the guardian is killed. Returns its pid."""
        request = {
            "do": "start",
            "argv": [os.fspath(part) for part in argv],
            "log": os.fspath(log),
            "cwd": os.fspath(log.parent),
            "environment": dict(environment),
            "uid": account.uid if account else None,
            "gid": account.gid if account else None,
            "end_signal": int(end_signal),
        }
        return int(self._ask(request)["pid"])

    def wait(self, pid: int, timeout: float) -> int | None:
        """The exit status of a program (negative: a signal's number), or None if it still runs after `timeout` s."""
        status = self._ask({"do": "wait", "pid": pid, "timeout": timeout})["status"]
        return None if status is None else int(status)

    def signal(self, pid: int, number: Signals) -> bool:
        """Signal a program that we started; False if it has ended."""
        return bool(self._ask({"do": "signal", "pid": pid, "signal": int(number)})["sent"])

    def settle(self, timeout: float) -> None:
        """Wait until nothing that was started is left, orphans included; what remains after `timeout` s is killed."""
        self._ask({"do": "settle", "timeout": timeout})

    def close(self) -> None:
        """End all and wait for it; may be called twice. A forked child of the owner only lets go of its copy."""
        self._replies.close()
        self._channel.close()
        if os.getpid() != self._owner:
            return
        self._process.wait()
        # The guardian removes them, unless it was killed: then the postmaster is quitting now, and may still write.
        deadline = time.monotonic() + REMOVE_S
        while any(folder.exists() for folder in self._folders) and time.monotonic() < deadline:
            for folder in self._folders:
                guardian.unmount(os.fspath(folder / "data"))
                shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.02)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if os.getpid() != self._owner:
            raise ServerError("this server belongs to the process that started it; a forked child cannot command it")
        with self._lock:
            if self._lost:
                raise GuardianLost("the guardian of this PostgreSQL is gone and the server with it: start another")
            # An interrupt between question and answer leaves us out of step: from then on it can only be closed.
            self._lost = True
            try:
                self._channel.sendall(json.dumps(request).encode() + b"\n")
                line = self._replies.readline()
            except (OSError, ValueError):
                line = b""
            if not line.endswith(b"\n"):
                raise GuardianLost(
                    f"the guardian (pid {self.pid}) of this PostgreSQL was ended while doing {request['do']!r}; "
                    "the server ends with it: start another"
                )
            self._lost = False
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            if answer.get("errno"):
                raise OSError(answer["errno"], f"cannot {request['do']}: {answer['error']}")
            raise ServerError(f"cannot {request['do']}: {answer['error']}")
        return answer
