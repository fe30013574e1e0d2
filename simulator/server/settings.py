"""How a server under control is set up, so that nothing but the simulator decides what happens in it.

All of PostgreSQL's timeouts stay as they are: they run on virtual time. Reasons and measurements: each line's comment.
"""

from typing import Final

from duress.faults.postgres import Binaries

MAX_CONNECTIONS: Final = 140  # a run may use up a hundred; some are kept from the one before

SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": str(MAX_CONNECTIONS),
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "on",  # a commit must survive the crash of a backend
    # Backends are killed only where they stand still, never inside a write that could be torn.
    "full_page_writes": "off",
    "checkpoint_timeout": "1d",
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "synchronize_seqscans": "off",  # where a scan starts would depend on who scanned before
    # The switch from custom to generic plans outlives DISCARD ALL, and changes the order of rows.
    "plan_cache_mode": "force_generic_plan",
    "shared_preload_libraries": "",
    "log_connections": "off",
    "log_disconnections": "off",
    "log_lock_waits": "off",
    "log_min_messages": "log",  # millions of expected errors would fill the memory that the files lie in
}


def settings_for(binaries: Binaries) -> dict[str, str]:
    """The settings that fit a version of PostgreSQL."""
    if binaries.major >= 18:
        return {**SETTINGS, "io_method": "sync"}  # else reads are done by processes that nobody schedules
    return dict(SETTINGS)
