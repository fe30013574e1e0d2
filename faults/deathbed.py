"""Processes that end with the one that started them, however that ends. Linux only."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PARENT_GONE = 70  # exit code of a process whose parent went away


def die_with(parent: int) -> None:
    """Have the kernel kill this process, even a stopped one, when the process `parent`, which started it, ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before we asked
        os._exit(PARENT_GONE)
