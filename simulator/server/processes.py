"""The server's processes, as the kernel has them: stopped, continued, and seen to end when the server crashes."""

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

# By name: see backend.py.
from time import monotonic, sleep
from typing import Final

from psycopg import pq

from duress.faults.postgres import Server
from duress.faults.postgres.guardian import parents_of_all
from duress.simulator.server.backend import DEADLINE_S
from duress.simulator.server.errors import HarnessError

RETRY_S: Final = 0.005
NEVER_MISSING: Final = b"checkpointer"


class Processes:
    """Of one server, which may be restarted: then `watch` again."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._witness = -1
        self.watch()

    def watch(self) -> None:
        """Begin to watch one that lives as long as the server does not crash, and ends when it does."""
        self.close()
        for pid in self.children():
            with suppress(OSError):
                if NEVER_MISSING in Path(f"/proc/{pid}/cmdline").read_bytes():
                    self._witness = os.pidfd_open(pid)
                    return
        raise HarnessError(f"the server has no {NEVER_MISSING.decode()} process; see {self._server.log_path}")

    def wait_crashed(self) -> None:
        """Wait until the postmaster has noticed that a backend was killed, and has ended all the others."""
        poll = select.poll()
        poll.register(self._witness, select.POLLIN)
        if not poll.poll(DEADLINE_S * 1000):
            raise HarnessError(f"the server did not crash in {DEADLINE_S:g} s of real time: was a backend killed?")

    def wait_ready(self) -> None:
        """Wait until the server answers."""
        deadline = monotonic() + DEADLINE_S
        while True:
            pgconn = pq.PGconn.connect(self._server.dsn().encode())
            try:
                if pgconn.status == pq.ConnStatus.OK:
                    return
                said = pgconn.error_message.decode(errors="replace").strip()
            finally:
                pgconn.finish()
            if monotonic() > deadline:
                raise HarnessError(
                    f"the server has not recovered in {DEADLINE_S:g} s ({said}); see {self._server.log_path}"
                )
            sleep(RETRY_S)

    def children(self) -> list[int]:
        """Those of the postmaster."""
        return [pid for pid, parent in parents_of_all().items() if parent == self._server.postmaster_pid]

    def stop(self) -> None:
        """SIGSTOP to all, and wait until they stand still: a signal is sent at once, but taken when a process has its turn."""
        self._signal(signal.SIGSTOP)
        deadline = monotonic() + DEADLINE_S
        while running := [pid for pid in (self._server.postmaster_pid, *self.children()) if not _is_stopped(pid)]:
            if monotonic() > deadline:
                raise HarnessError(f"processes {running} of the server did not stop in {DEADLINE_S:g} s")
            sleep(RETRY_S)

    def go_on(self) -> None:
        """SIGCONT to all."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Watch no longer."""
        if self._witness >= 0:
            os.close(self._witness)
            self._witness = -1

    def _signal(self, number: signal.Signals) -> None:
        """To the postmaster first, so that it has no new children."""
        os.kill(self._server.postmaster_pid, number)
        for pid in self.children():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped, or is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "TZ"
    except OSError:
        return True
