"""End child processes when their parent ends."""

import ctypes
import os
import signal
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Ask Linux to send this process a SIGTERM when its parent ends, for whatever reason (prctl(2)).

    A task that Airflow kills with SIGKILL cannot stop its trainer; the kernel can.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended between the two calls
        os.kill(os.getpid(), signal.SIGTERM)


def ending_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that runs `command`, which then ends with the process that starts it, as after `die_with_parent`.

    For programs that do not ask by themselves, or only after their imports. `setpriv` belongs to util-linux, which every Debian has. A
    `preexec_fn` would ask without it, but forks this process with the locks that its other threads hold, and lets the fork handlers of
    gRPC run, which aborted one program in thirty before it began.
    """
    return ["setpriv", "--pdeathsig", "TERM", "--", *command]
