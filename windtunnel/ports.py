"""Free ports, for a platform beside others: in tests and benchmarks."""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Any, TextIO

from windtunnel.settings import Settings

CANDIDATES = range(10_000, 20_000)  # below those that Linux gives to connections, and to who asks for any port

_reserved: list[TextIO] = []


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, each another.

    No other process that asks here gets them before this one has ended: who is to listen on them may take long to start.
    """
    found: list[int] = []
    while len(found) < count:
        if _reserve(port := random.choice(CANDIDATES)):
            found.append(port)
    return found


def _reserve(port: int) -> bool:
    directory = Path(tempfile.gettempdir(), f"windtunnel-ports-{os.getuid()}")
    directory.mkdir(mode=0o700, exist_ok=True)
    file = (directory / str(port)).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:  # reserved, or taken
        file.close()
        return False
    _reserved.append(file)
    return True


def platform_ports() -> dict[str, Any]:
    """A free port for every setting that is one."""
    names = [name for name in Settings.model_fields if name.endswith("_port")]
    return dict(zip(names, free_ports(len(names)), strict=True))
