"""As root, PostgreSQL runs under another account, which may be shut out of the folder that holds its programs."""

import ctypes
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from duress.faults.postgres import CannotDropRoot, Server, find_binaries

CAP_SETGID, CAP_SETUID, PR_CAPBSET_DROP = 6, 7, 24

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to drop to another account")


@pytest.fixture(params=[0o755, 0o700], ids=["closed above", "closed throughout"])
def shut_away(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The wheel's programs below a folder that only root may enter; its files may be closed as well."""
    tmp_path.chmod(0o700)
    wheel = find_binaries("embedded").folder.parent.parent
    site = tmp_path / "ümlaut in root's home"
    shutil.copytree(
        wheel / "pginstall", site / wheel.name / "pginstall", ignore=shutil.ignore_patterns("include", "*.a")
    )
    shutil.copytree(wheel.parent / f"{wheel.name}.libs", site / f"{wheel.name}.libs")
    for path in [site, *site.rglob("*")]:
        path.chmod(path.stat().st_mode & request.param)
    return site / wheel.name / "pginstall" / "bin"


def owner_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


@needs_root
def test_programs_that_the_account_cannot_reach_are_lent_to_it(
    shut_away: Path, monkeypatch: pytest.MonkeyPatch, open_folder: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(open_folder))
    modes = {path: path.stat().st_mode for path in shut_away.parent.rglob("*")}
    with Server.start(binaries=find_binaries(str(shut_away))) as server:
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("create extension pg_stat_statements")
            connection.execute("select timestamptz '2026-01-01 12:00 Europe/Paris'")
        server.restart()
        assert owner_of(server.postmaster_pid) != 0
        assert list(open_folder.iterdir()), "the programs were lent from here"
    assert not list(open_folder.iterdir())
    assert {path: path.stat().st_mode for path in shut_away.parent.rglob("*")} == modes


@needs_root
def test_the_account_may_be_chosen_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    other = next(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0 and entry.pw_name != "nobody")
    monkeypatch.setenv("DURESS_POSTGRES_USER", str(other))
    with Server.start() as server:
        assert owner_of(server.postmaster_pid) == other
        psycopg.connect(server.dsn()).close()


@needs_root
@pytest.mark.parametrize(
    ("name", "wrong"),
    [("root", "names root"), ("0", "names root"), ("mr x", "no user 'mr x'"), ("54321", "no user '54321'")],
)
def test_an_account_that_will_not_do_is_named(name: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURESS_POSTGRES_USER", name)
    with pytest.raises(CannotDropRoot, match=rf"{wrong}.*(DURESS_POSTGRES_USER|name another)"):
        Server.start()


@needs_root
def test_a_root_that_may_not_change_users_is_told_so(open_folder: Path) -> None:
    def without_setuid() -> None:
        libc = ctypes.CDLL(None)
        libc.prctl(PR_CAPBSET_DROP, CAP_SETUID, 0, 0, 0)
        libc.prctl(PR_CAPBSET_DROP, CAP_SETGID, 0, 0, 0)

    done = subprocess.run(
        [sys.executable, "-c", "from duress.faults.postgres import Server; Server.start()"],
        env={**os.environ, "DURESS_POSTGRES_DIRECTORY": str(open_folder)},
        preexec_fn=without_setuid,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CannotDropRoot: PostgreSQL refuses to run as root" in done.stderr
    assert "Run as an ordinary user" in done.stderr
    assert not list(open_folder.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root drops to another account")
def test_an_ordinary_user_runs_it_as_themselves(server: Server) -> None:
    assert owner_of(server.postmaster_pid) == os.geteuid()
    assert server.data_directory.stat().st_uid == os.geteuid()
