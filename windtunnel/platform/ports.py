"""Find free ports, so that tests and benchmarks can run a platform beside others."""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Any, TextIO

from windtunnel.backend import backends
from windtunnel.settings import Settings

CANDIDATES = range(10_000, 20_000)  # below Linux's range of ephemeral ports

_reserved: list[TextIO] = []


def free_ports(count: int) -> list[int]:
    """Return `count` different ports of the loopback interface on which no process listens.

    They stay reserved until this process ends: other callers of this function get other ports, even before a server listens on these.
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
    except OSError:  # reserved or in use
        file.close()
        return False
    _reserved.append(file)
    return True


def platform_ports() -> dict[str, Any]:
    """Return a free port for each port of the platform and of its model servers, as arguments of `Settings`."""
    own = [name for name in Settings.model_fields if name.endswith("_port")]
    servers = {name: list(backend.settings().ports) for name, backend in backends().items()}
    free = iter(free_ports(len(own) + sum(map(len, servers.values()))))
    return {
        **{name: next(free) for name in own},
        "servers": {server: {name: next(free) for name in names} for server, names in servers.items()},
    }
