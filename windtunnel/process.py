"""Processes that do not outlive who started them."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux for a SIGTERM when the parent of this process ends, however it ends (prctl(2)).

    A task that Airflow kills with SIGKILL cannot stop its trainer; the kernel can.

    Args:
        parent: its pid, where it is known, as between fork and exec: it may have ended by now, and another taken its place.
    """
    parent = parent or os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended between the two calls
        os.kill(os.getpid(), signal.SIGTERM)
