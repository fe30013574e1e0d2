"""No server and no folder is left 2 s after its owner is gone, whatever ended the owner and whenever."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGSTOP, SIGTERM, Signals

import psycopg
import pytest

from duress.faults.postgres import GuardianLost, Server, remove_leftovers

GONE_WITHIN_S = 2.0
START = "from duress.faults.postgres import Server\nserver = Server.start()\n"
READY = "print('ready', server.postmaster_pid, server._guard.pid, flush=True)\n"
FOREVER = "import signal\nwhile True: signal.pause()\n"


class Owner:
    """A process that owns a server whose folder is made in `base`."""

    def __init__(self, base: Path, program: str) -> None:
        self.base = base
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "DURESS_POSTGRES_DIRECTORY": str(base)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def said(self) -> list[str]:
        """The next line of its output, in words."""
        assert self.process.stdout
        return self.process.stdout.readline().split()

    def end(self, number: Signals) -> None:
        os.killpg(self.process.pid, number)
        self.process.wait()


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


def shared_memory() -> dict[str, int]:
    """Shared memory outside a server's folder, System V's and PostgreSQL's named kind, and how many use it."""
    table = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    uses = {columns[1]: int(columns[6]) for columns in table}
    uses |= {str(path): 0 for path in Path("/dev/shm").glob("PostgreSQL.*")}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            for line in maps.read_text(errors="replace").splitlines():
                if (name := line.split()[-1]) in uses:
                    uses[name] += 1
    return uses


@pytest.fixture(autouse=True)
def no_shared_memory_is_left() -> Iterator[None]:
    """What nobody uses for all that time was left behind; servers of other tests come and go beside this one's."""
    before = shared_memory()
    yield
    deadline = time.monotonic() + GONE_WITHIN_S
    left = shared_memory().keys() - before.keys()
    while left := left & {name for name, users in shared_memory().items() if not users}:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.fixture
def owners(open_folder: Path) -> Iterator[Callable[[str], Owner]]:
    started: list[Owner] = []

    def start(program: str) -> Owner:
        started.append(Owner(open_folder, program))
        return started[-1]

    yield start
    for owner in started:
        if owner.process.poll() is None:
            owner.end(SIGKILL)
        assert owner.process.stdout
        owner.process.stdout.close()
    assert left_within(open_folder, GONE_WITHIN_S) == []


def left(base: Path) -> list[str]:
    """What is left of a server in `base`: folders, and processes that work in it or were told of it."""
    found = [str(path) for path in base.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes()
            works_in = os.readlink(process / "cwd")
        except OSError:
            continue
        if os.fsencode(base) in told or works_in.startswith(str(base)):
            found.append(f"{process.name} {told!r} in {works_in}")
    return found


def left_within(base: Path, seconds: float) -> list[str]:
    """What is still left after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (found := left(base)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(
    "moment",
    ["duress-*", "duress-*/data/global/pg_control", "duress-*/data/postmaster.pid"],
)
def test_sigkill_of_the_owner_while_it_starts(owners: Callable[[str], Owner], open_folder: Path, moment: str) -> None:
    owner = owners(START + READY + FOREVER)
    wait_for(lambda: list(open_folder.glob(moment)))
    owner.end(SIGKILL)
    assert left_within(open_folder, GONE_WITHIN_S) == []


@pytest.mark.parametrize("number", [SIGKILL, SIGINT])
def test_the_end_of_an_owner_by_a_signal(owners: Callable[[str], Owner], open_folder: Path, number: Signals) -> None:
    owner = owners(START + READY + FOREVER)
    postmaster = int(owner.said()[1])
    assert any(line.startswith(str(postmaster)) for line in left(open_folder)), "the check must see a living server"
    owner.end(number)
    assert left_within(open_folder, GONE_WITHIN_S) == []


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param("", id="without close"),
        pytest.param("import os; os.execv('/bin/true', ['true'])", id="by becoming another program"),
    ],
)
def test_an_owner_that_just_ends(owners: Callable[[str], Owner], open_folder: Path, ending: str) -> None:
    owner = owners(START + READY + ending)
    assert owner.said()[0] == "ready"
    owner.process.wait()
    assert left_within(open_folder, GONE_WITHIN_S) == []


def test_a_forked_child_that_outlives_the_owner_keeps_nothing_alive(
    owners: Callable[[str], Owner], open_folder: Path
) -> None:
    fork = (
        "import os, signal\n"
        "child = os.fork()\n"
        "if child == 0:\n    os.setsid()\n    while True: signal.pause()\n"
        "while os.getsid(child) != child: pass\n"
        "print(child, flush=True)\n"
    )
    owner = owners(START + fork + FOREVER)
    child = int(owner.said()[0])
    try:
        owner.end(SIGKILL)
        assert left_within(open_folder, GONE_WITHIN_S) == []
    finally:
        os.kill(child, SIGKILL)


def test_a_server_that_was_stopped_by_a_signal_goes_too_and_its_shared_memory(
    owners: Callable[[str], Owner], open_folder: Path
) -> None:
    sessions = "import psycopg\nsession = psycopg.connect(server.dsn())\nsession.execute('select 1')\n"
    owner = owners(START + sessions + READY + FOREVER)
    postmaster = int(owner.said()[1])
    segment = int(next(open_folder.glob("duress-*/data/postmaster.pid")).read_text().splitlines()[6].split()[1])
    assert str(segment) in shared_memory()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f" {postmaster} " in (process / "stat").read_text().rpartition(")")[2][:20]:
                os.kill(int(process.name), SIGSTOP)
    os.kill(postmaster, SIGSTOP)
    owner.end(SIGKILL)
    assert left_within(open_folder, GONE_WITHIN_S) == []
    assert str(segment) not in shared_memory()


def test_the_server_ends_with_its_guardian_and_close_removes_the_folder(open_folder: Path) -> None:
    with Server.start(directory=open_folder) as server:
        guardian = server._guard.pid
        os.kill(guardian, SIGKILL)
        wait_for(lambda: not [line for line in left(open_folder) if "postgres" in line])
        with pytest.raises(GuardianLost, match=f"{guardian}.*start another"):
            server.restart()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.dsn())
    assert left(open_folder) == []


def test_a_guardian_that_is_told_to_end_removes_everything(open_folder: Path) -> None:
    with Server.start(directory=open_folder) as server:
        os.kill(server._guard.pid, SIGTERM)
        assert left_within(open_folder, GONE_WITHIN_S) == []


def test_what_a_killed_guardian_and_owner_left_goes_at_the_next_start(
    owners: Callable[[str], Owner], open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(open_folder))
    owner = owners(START + READY + FOREVER)
    _, postmaster, guardian = owner.said()
    (abandoned,) = open_folder.iterdir()
    os.kill(int(postmaster), SIGSTOP)  # or it would end by itself
    os.kill(int(guardian), SIGKILL)
    owner.end(SIGKILL)
    with Server.start(directory=open_folder) as living:
        assert not abandoned.exists()
        assert not [line for line in left(open_folder) if str(abandoned) in line]
        assert remove_leftovers() == []
        psycopg.connect(living.dsn()).close()


def test_a_forked_child_cannot_end_its_parents_server(owners: Callable[[str], Owner]) -> None:
    fork = (
        "import os, psycopg\n"
        "child = os.fork()\n"
        "if child == 0:\n    server.close()\n    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "psycopg.connect(server.dsn())\n"
    )
    assert owners(START + fork + READY).said()[0] == "ready"


def test_an_interrupted_request_leaves_a_server_that_can_only_be_closed(open_folder: Path) -> None:
    program = (
        START
        + "import os, signal, threading\n"
        + "session = __import__('psycopg').connect(server.dsn())\n"
        + "print('ready', flush=True)\n"
        + "try:\n    server.stop('smart')\n"  # waits for the session, for ever
        + "except KeyboardInterrupt:\n    server.close(); print('closed', flush=True)\n"
    )
    owner = Owner(open_folder, program)
    assert owner.said() == ["ready"]
    wait_for(lambda: "smart shutdown" in next(open_folder.glob("duress-*/server.log")).read_text())
    asked = time.monotonic()
    os.kill(owner.process.pid, SIGINT)
    assert owner.said() == ["closed"]
    assert time.monotonic() - asked < GONE_WITHIN_S
    assert left(open_folder) == []
    owner.process.communicate()


def test_a_folder_of_somebody_else_is_never_removed_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    theirs, ours = tmp_path / "duress-results", tmp_path / "duress-unborn"
    for folder, name in ((theirs, "result.json"), (ours, "lock.new")):
        folder.mkdir()
        (folder / name).write_text("")
        os.utime(folder, (0, 0))
    assert ours in remove_leftovers()
    assert (theirs / "result.json").exists() and not ours.exists()
