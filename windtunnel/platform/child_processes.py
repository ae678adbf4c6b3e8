"""End child processes when their parent ends."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to send this process a SIGTERM when its parent ends, for whatever reason (prctl(2)).

    A task that Airflow kills with SIGKILL cannot stop its trainer; the kernel can.

    Args:
        parent: the parent's pid, if the caller knows it, for example between fork and exec. The parent may have ended already, and
            this process may have a new one.
    """
    parent = parent or os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended between the two calls
        os.kill(os.getpid(), signal.SIGTERM)
