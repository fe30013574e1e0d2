"""A cell: one private PostgreSQL under control and this process, on one core.

On one core, because a round trip then takes 33 µs instead of 120, and because what one of them does is done before the
next looks. Cells in several processes are how a machine is used up, never threads.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from psycopg.pq.abc import PGconn

from duress.faults.postgres import Binaries, Server, StopMode, find_binaries
from duress.simulator.server.backend import Backend
from duress.simulator.server.databases import Databases
from duress.simulator.server.errors import HarnessError, SimUnavailable
from duress.simulator.server.library import Library, library_path, load_library, preloading
from duress.simulator.server.page import Page
from duress.simulator.server.processes import Processes
from duress.simulator.server.session import Session, connect
from duress.simulator.server.settings import settings_for

EPOCH_US: Final = 1_900_000_000_000_000  # 2030-03-17T17:46:40Z, where virtual time begins
OWN_SESSIONS: Final = 0  # the number of the backends that are the cell's own
CONTROL_FOLDER: Final = "control"
# Room for the sessions of one crashed and not yet forgotten generation beside those of the next.
SLOTS_PER_CONNECTION: Final = 2


class Cell:
    """A running PostgreSQL whose backends, once adopted, do nothing by themselves. Use as a context manager, or `close`.

    Nothing of it outlives this process, however that ends (see duress.faults.postgres).
    """

    def __init__(self, server: Server, page: Page, library: Library, allowed: set[int]) -> None:
        """`start` is how to get a Cell."""
        self.server = server
        self.page = page
        self._library = library
        self._allowed = allowed
        self._backends: list[Backend] = []
        self._own: list[Backend] = []
        self._numbered = 0
        self._databases = Databases(self._open_session)
        self._processes = Processes(server)
        self._closed = False

    @classmethod
    def start(
        cls,
        *,
        binaries: Binaries | None = None,
        core: int | None = None,
        settings: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> "Cell":
        """Start a server under control, in about a second, and pin it and the calling thread to `core`.

        Without `core` the process's number chooses one of those that it may run on, so that neighbours share them out.
        Raises SimUnavailable where the library or the server cannot be had in the form that is needed, ServerError as
        `Server.start` does.
        """
        source, library = library_path(), load_library()
        binaries = binaries or find_binaries()
        chosen = {**settings_for(binaries), **(settings or {})}
        allowed = os.sched_getaffinity(0)
        pages: list[Page] = []

        def furnish(server: Server) -> dict[str, str]:
            page = _lay_out(server, SLOTS_PER_CONNECTION * int(chosen["max_connections"]))
            pages.append(page)
            return {**preloading(_copy_library(server, source)), **page.environment}

        try:
            os.sched_setaffinity(0, {core if core is not None else sorted(allowed)[os.getpid() % len(allowed)]})
            server = Server.start(
                binaries=binaries,
                fsync=chosen["fsync"] != "off",
                settings=chosen,
                directory=directory,
                furnish=furnish,
            )
            cell = cls(server, pages[0], library, allowed)
            try:
                cell._take_hold()
            except BaseException:
                cell.close()
                raise
        except BaseException:
            os.sched_setaffinity(0, allowed)
            raise
        return cell

    def _take_hold(self) -> None:
        """Check that the library is in the server, and begin to rule its clock."""
        header = self.page.header
        if header.error or not header.attached:
            reason = header.error.decode(errors="replace") or (
                f"the loader did not load it (statically linked, or a libc older than ours?); see {self.server.log_path}"
            )
            raise SimUnavailable(
                f"PostgreSQL {self.server.binaries.version} in {self.server.binaries.folder} does not accept the control "
                f"library: {reason}"
            )
        header.now_us = EPOCH_US
        header.on = 1

    # Its clock, sessions and databases

    @property
    def now_us(self) -> int:
        """The server's virtual clock, in µs since 1970."""
        return self.page.header.now_us

    def set_now(self, us: int) -> None:
        """Move the clock, for all of the server's processes at once. Timers that are due are the caller's to deliver."""
        self.page.header.now_us = us

    def jump(self, us: int) -> None:
        """What is set from now on as its clock is so much ahead: its monotonic clock goes on as if nothing had been."""
        self.page.header.jump_us += us

    @property
    def attention(self) -> int:
        """Rises whenever a registered backend is woken, or sent a signal by another process: then look at all of them."""
        return self.page.header.attention

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The registered backends, in the order of their registration."""
        return tuple(self._backends)

    def dsn(self, database: str = "postgres") -> str:
        """Where to connect to. Connecting and authentication run in real time; then comes `adopt`."""
        return self.server.dsn(database)

    def adopt(self, session: PGconn | int, seed: int, *, fresh: bool = True, name: bytes = b"") -> Backend:
        """Take control of the backend of a session that is open and idle. All its randomness follows from `seed`.

        `session` is a connection or, for one that is not libpq's, the process id. `fresh`: it has run nothing yet. In a
        kept one random() starts anew, through a statement for which a connection must still talk to the server itself; the
        owner of a mere process id runs setseed() himself. `name`: the application_name that its client is to seem to have
        asked for when it connected, from the next RESET on; empty: as it was.
        One thing stays: uuidv7() never goes back in time in a session.
        """
        self._numbered += 1
        pid = session if isinstance(session, int) else session.backend_pid
        backend = self._register(pid, seed, self._numbered, self._backends, name)
        if not fresh and not isinstance(session, int):
            Session(session, backend).run(f"select setseed({seed % 2**32 / 2**32!r})")
        return backend

    def open_session(self, database: str = "postgres", seed: int = 0) -> Session:
        """A connection driven by hand, adopted."""
        pgconn = connect(self.dsn(database))
        return Session(pgconn, self.adopt(pgconn, seed))

    @property
    def socket_path(self) -> Path:
        """The unix socket that the server listens on."""
        return self.server.socket_directory / f".s.PGSQL.{self.server.port}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database, as a copy of `template` if given (nobody may be connected to that)."""
        self._databases.create(name, template)

    def fresh_database(self, template: str) -> str:
        """A new copy of `template`; returns its name. It shows whatever `reset` may leave behind."""
        return self._databases.clone(template)

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there. Its sessions must have ended, and none may be held."""
        self._databases.drop(name)

    def reset(self, database: str, keep: Sequence[str] = ()) -> None:
        """Take a database back to its start: all tables of the user schemas but `keep` empty and new, sequences too.

        Never with DELETE: dead rows change scans, plans and the order of locks. Raises HarnessError when a session still
        holds a lock that is in the way.
        """
        self._databases.reset(database, keep)

    # Runs

    def begin(self, now_us: int = EPOCH_US) -> None:
        """A new run: what is left of timers goes off, the clock is set, backends are numbered from 1 again.

        Kept backends must be idle; they keep their order.
        """
        if stopped := [backend.describe() for backend in self._backends if not backend.idle]:
            raise HarnessError("a run cannot begin while backends are stopped or busy: " + "; ".join(stopped))
        self.drain_timers()
        self.page.header.jump_us = 0
        self.set_now(now_us)
        for number, backend in enumerate(self._backends, 1):
            backend.number = number
        self._numbered = len(self._backends)

    def drain_timers(self) -> None:
        """Let every timer of the backends go off, in order, as if time had passed; the clock ends at the last of them."""
        while pending := [(due, b.number, b) for b in (*self._backends, *self._own) if (due := b.timer_us)]:
            due, _, backend = min(pending)
            self.set_now(max(self.now_us, due))
            backend.deliver_timer()

    def settle(self) -> None:
        """Wait until every backend has taken in the signals that it was sent: exact NOTIFY, cancel and terminate."""
        for backend in self._backends:
            if backend.unsettled:
                backend.settle()

    def forget_all(self) -> None:
        """Control no backend any more; what was held goes on by itself."""
        for backend in (*self._backends, *self._own):
            backend.release()

    # Faults

    def recover(self) -> None:
        """After the SIGKILL of a backend: wait until the server has ended all sessions, forget them, wait until it answers."""
        for backend in (*self._backends, *self._own):
            backend.wait_gone()
        self._processes.wait_crashed()
        self._databases.forget()
        self.forget_all()
        self._processes.wait_ready()
        self._processes.watch()

    def crash(self) -> None:
        """SIGQUIT to all of the server, no checkpoint, and all backends forgotten; `restart` starts and recovers it."""
        self.server.crash()
        self._databases.forget()
        self.forget_all()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server if it runs, and start it again. All sessions are ended first, wherever they stand."""
        if mode == "immediate":
            self.crash()
        for backend in (*self._backends, *self._own):
            backend.end()
        self._databases.forget()
        self.server.restart(mode)
        self._processes.watch()

    def pause(self) -> None:
        """SIGSTOP to the postmaster and all its backends: the server stands still."""
        self._processes.stop()

    def resume(self) -> None:
        """SIGCONT: the server goes on as if nothing had been."""
        self._processes.go_on()

    # The rest

    def describe(self) -> list[str]:
        """Every backend's state, a line each."""
        return [backend.describe() for backend in (*self._own, *self._backends)]

    def unregister(self, backend: Backend) -> None:
        """Called by a backend that is released."""
        for registered in (self._backends, self._own):
            if backend in registered:
                registered.remove(backend)

    def close(self) -> None:
        """End the server and remove its files; may be called twice. This thread may run on all its cores again."""
        if self._closed:
            return
        self._closed = True
        self._databases.forget()
        self.forget_all()
        self._processes.close()
        self.server.close()
        self.page.close()
        os.sched_setaffinity(0, self._allowed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _register(self, pid: int, seed: int, number: int, backends: list[Backend], name: bytes = b"") -> Backend:
        slot = self.page.register(pid, seed % 2**64, name)
        if slot is None:
            raise HarnessError(
                f"all {len(self.page.slots)} slots are taken: backends that have ended were not released"
            )
        backend = Backend(self, self._library, slot, number)
        backends.append(backend)
        try:
            backend.welcome()
        except BaseException:
            backend.release()
            raise
        return backend

    def _open_session(self, database: str) -> Session:
        """A session of the cell's own, which is no part of any run."""
        pgconn = connect(self.dsn(database))
        return Session(pgconn, self._register(pgconn.backend_pid, 0, OWN_SESSIONS, self._own))


def _lay_out(server: Server, slots: int) -> Page:
    """The page and the bell, in a folder of the server that goes when it goes; the server's account may use both."""
    folder = server.directory / CONTROL_FOLDER
    folder.mkdir(mode=0o711)
    page = Page(folder, slots)
    server.give(page.path)
    server.give(page.bell_path)
    return page


def _copy_library(server: Server, source: Path) -> Path:
    """A copy that the server's account can read, where the loader may map it: /dev/shm is often mounted noexec."""
    target = server.make_program_folder() / source.name
    shutil.copyfile(source, target)
    target.chmod(0o755)
    return target
