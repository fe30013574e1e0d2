"""The server that everything in one run is measured on, and what it says about itself.

Its settings are the same for all engines and with fsync on and off, but for fsync itself and where the files are:
without fsync in memory-backed storage, with it on a disk, where it means something.
"""

import os
from pathlib import Path

import psycopg

from duress.faults.postgres import Server

# Room for WAL, so that no figure depends on when a checkpoint happens to fall; all the rest is the server's default.
SETTINGS = {"max_wal_size": "2GB", "checkpoint_timeout": "30min", "shared_buffers": "256MB"}
REPORTED = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "max_connections",
    "shared_preload_libraries",
    "track_commit_timestamp",
    "autovacuum",
    "autovacuum_naptime",
)


def start_server(*, fsync: bool) -> Server:
    """A private server for one run of the benchmarks."""
    return Server.start(fsync=fsync, settings=SETTINGS)


def settings_of(server: Server) -> dict[str, str]:
    """The settings that bear on the figures, as the server says them."""
    with psycopg.connect(server.dsn()) as connection:
        return {name: str(connection.execute(f"show {name}").fetchone()[0]) for name in REPORTED}  # type: ignore[index]


def file_system_of(folder: Path) -> str:
    """The type of the file system a folder is on: "tmpfs", "ext4"; "unknown" where /proc does not say."""
    wanted = os.stat(folder).st_dev
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    device = f"{os.major(wanted)}:{os.minor(wanted)}"
    for line in mounts:
        fields = line.split()
        if fields[2] == device:
            return fields[fields.index("-") + 1]
    return "unknown"
