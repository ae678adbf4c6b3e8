"""Find the processes of a platform by their environment, even after their parents have ended.

The environment of each process and of its children has `WINDTUNNEL_PLATFORM`, the home of the platform, and `WINDTUNNEL_PROCESS`, the
name in the Procfile.
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
KILL_SECONDS = 60  # an idle machine needs less than one
GONE = (psutil.Error, OSError)
"""The exceptions raised for a process that has ended or belongs to another user; psutil raises FileNotFoundError if it ends meanwhile."""


def running(home: Path) -> dict[str, list[psutil.Process]]:
    """Return the running processes of the platform in `home`, by name."""
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
    """Kill the processes that `find` returns until it returns none. Return the number of processes found by the first call.

    Raises:
        WindtunnelError: some processes still run after `KILL_SECONDS`.
    """
    found = left = find()
    deadline = time.monotonic() + KILL_SECONDS
    while left:
        if time.monotonic() > deadline:
            raise WindtunnelError(f"processes {', '.join(str(process.pid) for process in left)} cannot be killed: inspect them with ps")
        for process in left:
            with suppress(*GONE):
                process.kill()
        psutil.wait_procs(left, timeout=1)
        left = find()
    return len(found)


def listening(process: psutil.Process) -> set[int]:
    """Return the TCP ports on which a process listens."""
    try:
        connections = process.net_connections("tcp")
    except GONE:
        return set()
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


def memory(process: psutil.Process) -> int:
    """Return the proportional set size of a process in bytes, 0 if it has ended."""
    try:
        return process.memory_full_info().pss
    except GONE:
        return 0
