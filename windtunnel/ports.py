"""Free ports, for a platform beside others: in tests and benchmarks."""

import socket
from typing import Any

from windtunnel.settings import Settings


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, each another."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def platform_ports() -> dict[str, Any]:
    """A free port for every setting that is one."""
    names = [name for name in Settings.model_fields if name.endswith("_port")]
    return dict(zip(names, free_ports(len(names)), strict=True))
