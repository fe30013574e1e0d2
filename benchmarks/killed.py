"""`python -m benchmarks.killed`: a simulating campaign is killed at random moments, and must leave nothing.

Each time `duress run payments --jobs 2` is started with folders of its own, killed by SIGKILL (the command's process alone,
whose cells and servers are its descendants), and looked for: a process that was started with those folders, held backends
and guardians included, or a folder. What is there 2 seconds later is left behind.

Exit codes: 0 nothing was left, 1 something was.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

PATIENCE_S = 2.0
EARLIEST_S, LATEST_S = 0.3, 6.0  # from before there is a server until some runs are done
WHERE = "DURESS_POSTGRES_DIRECTORY"


def processes_of(folder: Path) -> list[int]:
    """Those that were started with this folder for their servers, or work in it: all of a server do, whatever it is called."""
    mark, found = f"{WHERE}={folder}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                started_so = mark in (entry / "environ").read_bytes().split(b"\0")
                inside = Path(os.readlink(entry / "cwd")).is_relative_to(folder)
            except OSError:  # it has ended
                continue
            if started_so or inside:
                found.append(int(entry.name))
    return found


def kill_one(after: float, folder: Path) -> tuple[int, float | None, list[str]]:
    """How many processes there were, seconds until nothing was left, and what was left instead."""
    words = [
        sys.executable,
        "-m",
        "duress",
        "run",
        "payments",
        "--world",
        "sim",
        "--jobs",
        "2",
        "--seeds",
        "100000",
        "--quiet",
    ]
    servers = folder / "servers"
    servers.mkdir(mode=0o777)
    servers.chmod(0o777)
    with subprocess.Popen(
        [*words, "--out", str(folder / "out")],
        env={**os.environ, WHERE: str(servers)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as command:
        time.sleep(after)
        if command.poll() is not None:
            raise click.ClickException(f"the campaign ended by itself, with exit code {command.returncode}")
        there = len(processes_of(servers))
        command.kill()
    killed = time.monotonic()
    while (left := processes_of(servers)) or any(servers.iterdir()):
        if time.monotonic() > killed + PATIENCE_S:
            return there, None, [*(f"process {pid}" for pid in left), *map(str, servers.iterdir())]
        time.sleep(0.01)
    return there, time.monotonic() - killed, []


@click.command()
@click.option("--kills", default=50, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=1, show_default=True, help="Of the moments.")
def main(kills: int, seed: int) -> None:
    """Kill a campaign again and again."""
    chance, took, most, failed = random.Random(seed), [], 0, 0
    for _ in range(kills):
        folder = Path(tempfile.mkdtemp(prefix="duress-killed-", dir="/dev/shm"))
        folder.chmod(0o755)
        after = chance.uniform(EARLIEST_S, LATEST_S)
        try:
            there, gone, left = kill_one(after, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        most = max(most, there)
        if gone is None:
            failed += 1
            print(f"killed after {after:.2f} s: {PATIENCE_S:g} s later there is {', '.join(left)}", flush=True)
        else:
            took.append(gone)
    print(
        f"{kills} kills, up to {most} processes: nothing left in {len(took)}, after {max(took, default=0.0):.2f} s at most"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
