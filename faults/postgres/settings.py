"""How our servers are set up, and how a setting is written down."""

from collections.abc import Mapping

from duress.faults.postgres.binaries import Binaries
from duress.faults.postgres.log import LINE_PREFIX

MB = 2**20
WAL_SEGMENT_MB = 4  # small ones, so that a new cluster takes 27 MB instead of 39


def needed_bytes(fsync: bool) -> int:
    """What a server may come to occupy: its WAL, the cluster itself and some databases."""
    return (1280 if fsync else 256) * MB


def default_settings(binaries: Binaries, fsync: bool) -> dict[str, str]:
    """The settings of a server of ours, before the caller's own.

    With `fsync` it is set up to be measured (room for WAL); without, to be quick and small. full_page_writes stays on:
    we kill backends with SIGKILL, which can cut a write between the two memory pages of a block.
    """
    return {
        "listen_addresses": "127.0.0.1",
        "max_connections": "200",
        "fsync": "on" if fsync else "off",
        "synchronous_commit": "on",
        "max_wal_size": "1GB" if fsync else "128MB",
        "track_commit_timestamp": "on",
        **({"shared_preload_libraries": "pg_stat_statements"} if binaries.has_library("pg_stat_statements") else {}),
        # Segments of the default kind (in /dev/shm) outlive a postmaster that is killed; these go with the folder.
        "dynamic_shared_memory_type": "mmap",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "log_destination": "stderr",
        "logging_collector": "off",
        "log_line_prefix": LINE_PREFIX,
        "log_connections": "on",
        "log_disconnections": "on",
        "log_lock_waits": "on",
        "log_checkpoints": "off",
    }


def as_configuration(settings: Mapping[str, str]) -> str:
    """Lines for postgresql.conf."""
    return "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
