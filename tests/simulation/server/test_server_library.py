"""The control library: compiled when it is needed, and a clear word where it cannot be had."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from duress.simulator.server import Cell, SimUnavailable, build, library
from duress.simulator.server.page import Page


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the source that may be changed, an empty cache, and nothing compiled."""
    copy = tmp_path / "native"
    shutil.copytree(build.SOURCES, copy)
    monkeypatch.setattr(build, "SOURCES", copy)
    monkeypatch.setenv(library.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(library, "BESIDE", tmp_path / "package")
    return copy


def find_anew() -> Path:
    library.library_path.cache_clear()
    try:
        return library.library_path()
    finally:
        library.library_path.cache_clear()


@pytest.fixture
def compiler() -> None:
    if build.why_not_here() or build.find_compiler() is None:
        pytest.skip(f"no C compiler here: {build.HOW_TO_GET}")


@pytest.mark.usefixtures("compiler")
def test_it_is_compiled_once_and_again_when_its_source_changes(source: Path, tmp_path: Path) -> None:
    first = find_anew()
    assert first.parent == tmp_path / "cache" / "duress"
    made = first.stat().st_mtime_ns
    assert find_anew() == first and first.stat().st_mtime_ns == made
    (source / "disk.c").open("a").write("/* changed */\n")
    assert find_anew() not in (first, None)
    assert len(list(first.parent.iterdir())) == 2


@pytest.mark.usefixtures("compiler")
def test_the_one_of_the_package_is_taken_unless_it_is_stale(source: Path, tmp_path: Path) -> None:
    packaged = build.compile_library(tmp_path / "package")
    assert find_anew() == packaged
    (source / "disk.c").open("a").write("/* changed */\n")
    assert find_anew().parent == tmp_path / "cache" / "duress"


@pytest.mark.usefixtures("compiler")
def test_a_cache_that_others_can_write_to_is_not_trusted(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "duress"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    (folder / build.library_name()).write_bytes(b"not ours")
    assert find_anew().parent != folder


@pytest.mark.usefixtures("compiler")
def test_what_the_compiler_says_is_passed_on(source: Path) -> None:
    (source / "disk.c").open("a").write("int broken(void) { return nothing_of_that_name; }\n")
    with pytest.raises(SimUnavailable, match=r"(?s)disk\.c.*ended with status 1.*nothing_of_that_name"):
        find_anew()


def test_a_machine_without_a_compiler_is_told_what_to_install(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    monkeypatch.setattr(build, "why_not_here", lambda: "")
    with pytest.raises(SimUnavailable, match=r"no C compiler .*apt-get install gcc.*ziglang"):
        find_anew()


def test_a_compiler_that_is_not_there_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc -m64")
    monkeypatch.setattr(build, "why_not_here", lambda: "")
    with pytest.raises(SimUnavailable, match=r"/nowhere/cc -m64 .*cannot be run"):
        find_anew()


@pytest.mark.parametrize(
    ("system", "libc", "said"), [("darwin", ("", ""), "needs Linux"), ("linux", ("musl", "1.2"), "glibc.*uses musl")]
)
def test_another_system_is_refused_by_name(
    source: Path, monkeypatch: pytest.MonkeyPatch, system: str, libc: tuple[str, str], said: str
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.libc_ver", lambda: libc)
    with pytest.raises(SimUnavailable, match=said):
        find_anew()


FOLLOWING = """
import datetime, pathlib, ssl, sys, time
from duress.simulator.server.library import follow_clock

before = time.time()
offset = follow_clock(pathlib.Path(sys.argv[1]))
print(before < 1_900_000_000, time.time(), datetime.datetime.now(datetime.timezone.utc).isoformat(), time.time_ns())
offset.value = -1_500_000
print(time.time(), time.monotonic() < before, len(set(ssl.RAND_bytes(64))) > 8)
"""


@pytest.mark.usefixtures("compiler")
def test_a_process_that_preloads_it_can_follow_a_page_s_clock(tmp_path: Path) -> None:
    page = Page(tmp_path, 1)
    page.header.now_us, page.header.on = 1_900_000_000_000_001, 1
    command = [sys.executable, "-c", FOLLOWING, str(page.path)]
    done = subprocess.run(
        command,
        env={**os.environ, **library.preloading(library.library_path())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "True 1900000000.000001 2030-03-17T17:46:40.000001+00:00 1900000000000001000",
        "1899999998.500001 True True",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "was not started with LD_PRELOAD=" in done.stderr
    page.close()


@pytest.mark.usefixtures("compiler")
def test_a_server_is_controlled_though_there_is_a_space_in_the_way_to_the_library(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert " " in str(open_folder)
    open_folder.chmod(0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(open_folder))
    with Cell.start() as cell:
        assert " " in str(next(open_folder.glob("duress-*/*.so")))
        [reply] = cell.open_session().run("select extract(year from now())")
        assert reply.rows == (("2030",),)
