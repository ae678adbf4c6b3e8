"""The processes of a platform, known by their environment, whatever became of their parents.

Each carries `WINDTUNNEL_PLATFORM`, the home of its platform, and `WINDTUNNEL_PROCESS`, its name in the Procfile, as does all it starts.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from windtunnel.errors import WindtunnelError

PLATFORM = "WINDTUNNEL_PLATFORM"
NAME = "WINDTUNNEL_PROCESS"
KILL_SECONDS = 60  # a moment on a quiet machine
GONE = (psutil.Error, OSError)
"""What looking at a process raises that has ended, or is another user's: psutil lets FileNotFoundError through if it ends meanwhile."""


def running(home: Path) -> dict[str, list[psutil.Process]]:
    """The running processes of the platform in `home`, by name."""
    groups = defaultdict(list)
    for pid in psutil.pids():
        try:
            process = psutil.Process(pid)
            environment = process.environ()
        except GONE:
            continue
        if environment.get(PLATFORM) == str(home):
            groups[environment.get(NAME, "")].append(process)
    return dict(groups)


def kill(find: Callable[[], list[psutil.Process]]) -> int:
    """Kill what `find` finds until it finds nothing, and return how many there were at first.

    Raises:
        WindtunnelError: there is still something to find after `KILL_SECONDS`.
    """
    found = left = find()
    deadline = time.monotonic() + KILL_SECONDS
    while left:
        if time.monotonic() > deadline:
            raise WindtunnelError(f"processes {', '.join(str(process.pid) for process in left)} do not end: look at them with ps")
        for process in left:
            with suppress(*GONE):
                process.kill()
        psutil.wait_procs(left, timeout=1)
        left = find()
    return len(found)


def listening(process: psutil.Process) -> set[int]:
    """The TCP ports on which a process listens."""
    try:
        connections = process.net_connections("tcp")
    except GONE:
        return set()
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


def memory(process: psutil.Process) -> int:
    """The proportional set size of a process in bytes, 0 if it has ended."""
    try:
        return process.memory_full_info().pss
    except GONE:
        return 0
